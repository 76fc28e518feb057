"""Files to text to passages: decoding, parsing in a child process, splitting, and the pipeline into a library."""
