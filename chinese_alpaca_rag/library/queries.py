"""The columns that make a record, in the order in which ``store`` takes them."""

from __future__ import annotations

from chinese_alpaca_rag.library.database import STRETCH

FILE_SELECT = """
    SELECT id, path, sha256, title, format, page_kind, encoding, missing, parser, size, modified_ns, ingested_at,
           pages, passages, confidence, hidden,
           (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE file_id = files.id ORDER BY tag)),
           (SELECT json_group_array(path) FROM (SELECT path FROM copies WHERE file_id = files.id ORDER BY path))
    FROM files
"""
# The last column is the text of the page's stretches that a passage lies in, from the first one's beginning.
PASSAGE_SELECT = """
    SELECT passages.id, passages.file_id, files.path, files.title, files.page_kind, pages.number, pages.label,
           passages.position, passages.start, passages."end", passages.heading, files.sha256,
           (SELECT group_concat(text, '') FROM (
               SELECT text FROM stretches
               WHERE page_id = passages.page_id AND start > passages.start - STRETCH AND start < passages."end"
               ORDER BY start
           ))
    FROM passages JOIN files ON files.id = passages.file_id JOIN pages ON pages.id = passages.page_id
""".replace("STRETCH", str(STRETCH))
