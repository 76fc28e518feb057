"""Texts for the decoding tests, written for them: short and long, everyday and odd, in both scripts."""

from __future__ import annotations

_ASCII_HEAD = "# export of the staff database, generated 2024-05-01, do not edit\n" + "id,name,department,note\n" * 200

#: Traditional texts that Big5 (with the characters of Taiwan's and Hong Kong's code pages) holds.
TRADITIONAL: dict[str, str] = {
    "two": "年假",
    "name": "陳堃輝經理您好",
    "greeting": "您好！",
    "question": "請問今天放假嗎？",
    "sentence": "員工每年享有十五天年假，應當提前兩週提出申請。",
    "punctuation": "「你好，」他說，「請坐。」（她沒有坐下）……於是——沉默。",
    "numbers": "民國一百一十三年五月一日，共計新臺幣１２３，４５６元整。",
    "english": "請使用 Windows 11 的 Microsoft Word 開啟附件 report_v2.docx，謝謝 Amy！",
    "letter": "敬啟者：\n\n茲檢附本公司一百一十三年度財務報表，敬請查照。\n\n順頌\n商祺\n",
    "crlf": "第一行是標題\r\n第二行是內容\r\n第三行是結尾\r\n",
    "csv": "姓名,部門,年假\n王小明,業務部,十五\n李大華,研發部,十\n",
    "tabs": "縣市\t人口\t面積\n臺北市\t二百五十萬\t二百七十二\n高雄市\t二百七十萬\t二千九百\n",
    "poem": "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。\n",
    "classical": "子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？」\n",
    "news": "行政院今天宣布，明年起全國公務人員每月調薪百分之四，預計將有三十六萬人受惠。",
    "law": "第一條　為保障勞工權益，加強勞雇關係，促進社會與經濟發展，特制定本法。\n第二條　本法用詞定義如下。\n",
    "address": "臺北市中正區重慶南路一段一百二十二號三樓之五",
    "etf": "碁石、裏面、粧扮、恒心、嫺熟、銹跡、墻壁",
    "cantonese": "佢哋喺度做嘢，我都唔知點解啲人咁鍾意嚟呢度食飯㗎。",
    "hongkong": "深水埗、鰂魚涌、大角咀、薄扶林、赤鱲角，都係香港嘅地方。",
    "box": "┌──┬──┐\n│甲　│乙　│\n└──┴──┘\n表格結束。",
    "symbols": "★重要通知★　請於三月①日前完成 ≦ 五件，溫度攝氏二十℃。",
    "mixed_lines": "Dear all,\n\n會議改到星期三下午兩點，地點在十樓會議室。\n\nBest regards,\n林經理\n",
    "code": "# 讀取設定檔\ndef load(path):\n    '讀取檔案，傳回內容'\n    return open(path).read()  # 記得關檔\n",
    "ascii_head": _ASCII_HEAD + "1,王小明,業務部,這是第一筆資料\n2,李大華,研發部,這是第二筆資料\n",
    "long": "".join(
        f"第{number}節說明本辦法的適用範圍與主管機關，並規定申請人應備妥之文件。\n" for number in range(3000)
    ),
    "names": "歐陽靖、諸葛亮、司馬懿、夏侯惇、公孫瓚、上官婉兒",
    "menu": "滷肉飯　三十五元\n蚵仔煎　六十元\n珍珠奶茶　四十五元\n",
}

#: Texts for GB 2312, GBK and GB 18030.
SIMPLIFIED: dict[str, str] = {
    "two": "年假",
    "three": "李小龙",
    "greeting": "你好！",
    "question": "今天放假吗？",
    "sentence": "员工每年享有十五天年假，应当提前两周提出申请。",
    "punctuation": "“你好，”他说，“请坐。”（她没有坐下）……于是——沉默。",
    "zero": "二〇二四年五月一日，共计人民币壹拾贰万叁仟肆佰伍拾陆元整。",
    "english": "请使用 Windows 11 的 Microsoft Word 打开附件 report_v2.docx，谢谢 Amy！",
    "letter": "尊敬的客户：\n\n现附上本公司二〇二四年度财务报表，请查收。\n\n此致\n敬礼\n",
    "crlf": "第一行是标题\r\n第二行是内容\r\n第三行是结尾\r\n",
    "csv": "姓名,部门,年假\n王小明,销售部,十五\n李大华,研发部,十\n",
    "poem": "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n",
    "news": "国务院今天宣布，明年起全国公务员每月工资上调百分之四，预计三十六万人受益。",
    "law": "第一条　为了保护劳动者的合法权益，调整劳动关系，根据宪法，制定本法。\n第二条　本法用语含义如下。\n",
    "code": "# 读取配置文件\ndef load(path):\n    '读取文件，返回内容'\n    return open(path).read()  # 记得关闭\n",
    "ascii_head": _ASCII_HEAD + "1,王小明,销售部,这是第一条数据\n2,李大华,研发部,这是第二条数据\n",
    "long": "".join(
        f"第{number}节说明本办法的适用范围与主管机关，并规定申请人应备齐的文件。\n" for number in range(3000)
    ),
    "symbols": "★重要通知★　请于三月①日前完成 ≤ 五件，温度二十℃。",
}

#: Texts that need more than GB 2312.
GBK: dict[str, str] = {
    "traditional": "員工每年享有十五天年假，應當提前兩週提出申請。",
    "names": "朱镕基、陶喆、李堃、王喆、张珺、赵犇、孙淼、周喆",
    "rare": "饕餮、魑魅魍魉、龃龉、觊觎、耄耋、氤氲、旖旎",
    "kana": "日文的“ありがとう”就是“谢谢”的意思，片假名写作“アリガトウ”。",
    "mixed": "他在“囍”字前站了很久，又看了看“瞾”字，说：這是異體字。",
}

#: Texts that only GB 18030 holds, some of them in four bytes a character.
GB18030: dict[str, str] = {
    "four_bytes": "这个姓氏写作“𠮷”，读作“吉”，人名里还有“䶮”字和“㛃”字。",
    "extension_b": "生僻字：𠀀𠀁𠀂𪚥，出自《康熙字典》，一般的字体里没有。",
    "emoji": "会议改到下午三点😀，请大家准时参加，谢谢合作。",
    "accents": "他在 café 里读《Les Misérables》，窗外是 Zürich 的雪。",
    "minority": "蒙古文ᠮᠣᠩᠭᠣᠯ和藏文བོད་ཡིག都收录在国家标准里。",
}

#: Texts for the wide encodings.
WIDE: dict[str, str] = {
    "sentence": "员工每年享有十五天年假，应当提前两周提出申请。",
    "traditional": "員工每年享有十五天年假，應當提前兩週提出申請。",
    "english": "Please open report_v2.docx with Word.\r\nThe second line is English as well.\r\n",
    "mixed": "Dear all,\r\n会议改到星期三下午两点。\r\n",
    "astral": "这个姓氏写作“𠮷”，会议改到下午😀。",
}
