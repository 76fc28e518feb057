"""Texts that the tests of this folder share, written for them."""

from __future__ import annotations

SIMPLIFIED = (
    "员工入职满一年不满十年的，年休假为五天；已满十年不满二十年的，年休假为十天。",
    "出差住宿标准：一线城市每晚不超过六百元，其他城市每晚不超过四百元。凭发票报销。",
    "本产品的额定电压为二百二十伏，请勿在潮湿环境中使用，以免发生触电危险！",
    "会议由王经理主持，讨论了第三季度的销售目标、预算安排以及新员工培训计划。",
    "“明天放假吗？”他问道。张老师笑了笑，说：“二〇二四年的安排还没有公布呢。”",
)
TRADITIONAL = (
    "員工到職滿一年未滿三年者，每年應給予特別休假七日；滿三年以上者，給予十日。",
    "出差住宿標準：臺北市每晚不超過三千元，其他縣市每晚不超過二千元，憑發票核銷。",
    "本產品之額定電壓為一百一十伏特，請勿於潮濕環境中使用，以免發生觸電危險！",
    "會議由陳經理主持，討論第三季的銷售目標、預算編列以及新進人員訓練計畫。",
    "「明天放假嗎？」他問道。張老師笑了笑，說：「今年的行事曆還沒有公布呢。」",
    "香港特別行政區政府宣布，下星期一起恢復各類學校的面授課堂，並會加強巡查。",
)
ENGLISH = (
    "Employees who have worked for more than one year are entitled to five days of annual leave. "
    "The standard for hotels is 600 yuan a night in large cities."
)
