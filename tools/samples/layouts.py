"""What the samples say and where it stands. People, firms and numbers are invented."""

from PIL import Image
from sheet import Fonts, Sheet

DPI = 130
SANS, BOLD, SERIF, MONO = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"
HEI, HEI_BOLD, SONG = "NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "NotoSerifCJK-Regular.ttc"


def wrap(text: str, width: int) -> list[str]:
    """Break at spaces into lines of at most `width` characters; text without spaces anywhere."""
    lines = [""]
    for word in text.split(" "):
        for piece in [word[i : i + width] for i in range(0, len(word), width)]:
            if len(lines[-1]) + len(piece) + 1 > width and lines[-1]:
                lines.append("")
            lines[-1] = f"{lines[-1]} {piece}".strip()
    return lines


def rows(
    sheet: Sheet, y: float, cells: list[list[str]], edges: list[float], font: str, *, height: float = 8
) -> float:
    """A ruled table whose first row is its head and whose columns lie between `edges`; the y of its end."""
    for number, row in enumerate(cells):
        for left, right, cell in zip(edges, edges[1:], row, strict=False):
            sheet.box(left, y, right, y + height, fill=225 if number == 0 else 255)
            sheet.text(left + 2, y + height / 2 - 2.2, cell, font, 10)
        y += height
    return y


def invoice_zh(fonts: Fonts) -> Image.Image:
    """Tabular, with the amount in words."""
    sheet = Sheet(fonts, 210, 297, DPI)
    sheet.text(105, 18, "销售发票", HEI_BOLD, 24, "m")
    sheet.line(20, 32, 190, 32, 0.6)
    for y, left, right in [
        (38, "发票号码：2026-00418", "开票日期：2026年3月12日"),
        (46, "购买方：晨星图书馆", "纳税人识别号：SAMPLE000000000017"),
        (54, "销售方：青禾文具有限公司", "地址：云川市北湖路88号"),
    ]:
        sheet.text(20, y, left, HEI, 11)
        sheet.text(105, y, right, HEI, 11)
    goods = [
        ["货物名称", "单位", "数量", "单价（元）", "金额（元）"],
        ["复印纸 A4", "箱", "12", "138.00", "1656.00"],
        ["黑色墨水笔", "盒", "30", "24.50", "735.00"],
        ["档案袋", "包", "20", "16.80", "336.00"],
        ["订书机", "台", "5", "42.00", "210.00"],
    ]
    y = rows(sheet, 66, goods, [20, 80, 100, 122, 156, 190], HEI, height=10)
    for label, value in [("合计金额", "2937.00"), ("增值税（13%）", "381.81"), ("价税合计", "3318.81")]:
        y += 9
        sheet.text(140, y, label, HEI, 11)
        sheet.text(190, y, value, HEI, 11, "r")
    sheet.text(20, y + 14, "价税合计（大写）：叁仟叁佰壹拾捌元捌角壹分", HEI_BOLD, 12)
    sheet.text(20, y + 28, "备注：请于收到发票后三十日内付款。本文件为样张，不作报销凭证。", SONG, 11)
    sheet.text(20, y + 44, "收款人：林小雨    复核：陈志远    开票人：王思齐", HEI, 11)
    return sheet.image


def invoice_en(fonts: Fonts) -> Image.Image:
    """A letterhead, a ruled table and totals."""
    sheet = Sheet(fonts, 210, 297, DPI)
    sheet.text(20, 18, "Northwind Paper Mill", BOLD, 18)
    sheet.text(20, 28, "4 Harbour Lane, Eastport", SANS, 10)
    sheet.text(190, 18, "INVOICE", BOLD, 22, "r")
    sheet.text(190, 30, "Number 10482", SANS, 10, "r")
    sheet.text(190, 36, "Date 12 March 2026", SANS, 10, "r")
    for y, text in enumerate(["Bill to", "Lantern Street Library", "17 Lantern Street", "Westfield"]):
        sheet.text(20, 48 + 6 * y, text, BOLD if y == 0 else SANS, 10)
    goods = [
        ["Description", "Quantity", "Unit price", "Amount"],
        ["Copy paper, A4, 80 g", "40", "4.75", "190.00"],
        ["Card, cream, 250 g", "12", "9.20", "110.40"],
        ["Envelopes, window", "25", "3.60", "90.00"],
        ["Delivery", "1", "18.00", "18.00"],
    ]
    y = rows(sheet, 80, goods, [20, 96, 122, 156, 190], SANS, height=9)
    for label, value in [("Subtotal", "408.40"), ("Tax 20%", "81.68"), ("Total due", "490.08")]:
        y += 8
        sheet.text(140, y, label, BOLD if label == "Total due" else SANS, 11)
        sheet.text(190, y, value, BOLD if label == "Total due" else SANS, 11, "r")
    sheet.line(138, y + 7, 190, y + 7, 0.5)
    sheet.text(20, y + 24, "Payment within 30 days. Please quote the invoice number.", SERIF, 10)
    sheet.text(20, y + 31, "This document is a specimen. Thank you for your business!", SERIF, 10)
    return sheet.image


def receipt(fonts: Fonts) -> Image.Image:
    """The paper slip, before it is photographed."""
    sheet = Sheet(fonts, 72, 150, 240)
    for y, text, points in [
        (7, "CORNER BAKERY", 15),
        (15, "21 Mill Road, Eastport", 8.5),
        (20, "Tel 555-0142", 8.5),
    ]:
        sheet.text(36, y, text, MONO, points, "m")
    sheet.text(6, 29, "2026-03-12  08:41", MONO, 8.5)
    sheet.text(66, 29, "No 0077", MONO, 8.5, "r")
    sheet.line(6, 35, 66, 35)
    y = 39.0
    for name, price in [
        ("Rye bread", "4.20"), ("Croissant x3", "6.60"), ("Apple tart", "3.90"),
        ("Coffee large", "3.10"), ("Orange juice", "2.80"), ("Paper bag", "0.20"),
    ]:  # fmt: skip
        sheet.text(6, y, name, MONO, 10)
        sheet.text(66, y, price, MONO, 10, "r")
        y += 7.5
    sheet.line(6, y + 1, 66, y + 1)
    for name, price, points in [("TOTAL", "20.80", 14), ("CASH", "25.00", 10), ("CHANGE", "4.20", 10)]:
        y += 8
        sheet.text(6, y - 4, name, MONO, points)
        sheet.text(66, y - 4, price, MONO, points, "r")
    sheet.text(36, y + 16, "Thank you, come again!", MONO, 10, "m")
    sheet.text(36, y + 24, "SPECIMEN", MONO, 10, "m")
    return sheet.image


_LEFT = (
    "Every harbour keeps a book of its lights. The one at Eastport begins in 1871, in the hand of a keeper who "
    "wrote down the wind before the hour and the oil before the wind. From him we know that the winter of that "
    "year was mild, that the herring came late, and that the lamp went out only once. Later keepers wrote less. "
    "By the turn of the century an entry was a single line, and after 1920 a stamp. What the stamp cannot tell "
    "is what made the old pages worth copying: who was ashore, and why."
)
_RIGHT = (
    "When the library began to scan the books, the first question was not which machine to buy but how to name "
    "the pictures. A page that cannot be found again has not been saved. The team chose the plainest scheme: the "
    "book, the year, the number of the leaf. Nothing was left to memory. In eleven months they made 48,000 "
    "pictures, and missed nine leaves, each of which was noticed by the count and not by the eye. The lesson is "
    "an old one: counting is cheap, and looking again is dear."
)


def two_columns(fonts: Fonts) -> Image.Image:
    """Prose in two columns under one title."""
    sheet = Sheet(fonts, 210, 297, DPI)
    sheet.text(105, 18, "The Lighthouse Books", SERIF, 22, "m")
    sheet.text(105, 31, "Notes on a small archive", SERIF, 12, "m")
    for x, text in [(20, _LEFT), (111, _RIGHT)]:
        for number, line in enumerate(wrap(text, 37)):
            sheet.text(x, 45 + 6.4 * number, line, SERIF, 10.5)
    return sheet.image


def form(fonts: Fonts) -> Image.Image:
    """Labelled boxes filled in with capital letters, and check boxes."""
    sheet = Sheet(fonts, 210, 297, DPI)
    sheet.text(20, 18, "Application for a reader's card", BOLD, 17)
    sheet.text(20, 30, "Please fill in with capital letters.", SANS, 10)
    y = 42.0
    for label, value in [
        ("Family name", "HOLLOWAY"), ("Given name", "MIRIAM"), ("Date of birth", "1988-07-23"),
        ("Street", "5 WILLOW COURT"), ("Town", "WESTFIELD"), ("Telephone", "555-0199"),
    ]:  # fmt: skip
        sheet.text(20, y + 3, label, SANS, 11)
        sheet.box(65, y, 190, y + 11)
        sheet.text(69, y + 2.8, value, MONO, 13)
        y += 16
    sheet.text(20, y + 4, "Branch", SANS, 11)
    for x, name, chosen in [(65, "Central", False), (105, "Harbour", True), (145, "Hillside", False)]:
        sheet.box(x, y + 3, x + 6, y + 9)
        if chosen:
            sheet.line(x + 1, y + 4, x + 5, y + 8, 0.7)
            sheet.line(x + 5, y + 4, x + 1, y + 8, 0.7)
        sheet.text(x + 9, y + 4, name, SANS, 11)
    sheet.text(20, y + 26, "I agree to the rules of the library.", SANS, 11)
    sheet.line(20, y + 48, 90, y + 48)
    sheet.text(20, y + 50, "Place and date", SANS, 9)
    sheet.line(110, y + 48, 190, y + 48)
    sheet.text(110, y + 50, "Signature", SANS, 9)
    return sheet.image


def table(fonts: Fonts) -> Image.Image:
    """Figures in a ruled table."""
    sheet = Sheet(fonts, 210, 200, DPI)
    sheet.text(105, 16, "Loans by branch and quarter", BOLD, 16, "m")
    cells = [["Branch", "Q1", "Q2", "Q3", "Q4", "Year"]]
    for name, *loans in [
        ("Central", 4182, 3907, 3515, 4460), ("Harbour", 2219, 2304, 2671, 2098),
        ("Hillside", 1375, 1290, 1104, 1483), ("Mill Road", 968, 1012, 887, 1051),
        ("Bookmobile", 412, 536, 640, 377),
    ]:  # fmt: skip
        cells.append([name, *map(str, loans), str(sum(loans))])
    totals = [str(sum(int(row[column]) for row in cells[1:])) for column in range(1, 6)]
    y = rows(sheet, 32, [*cells, ["Total", *totals]], [20, 70, 94, 118, 142, 166, 190], SANS, height=11)
    sheet.text(20, y + 8, "Source: annual report, specimen figures.", SANS, 10)
    return sheet.image


def page(fonts: Fonts, title: str, paragraphs: list[str]) -> Image.Image:
    """A plain page of prose, in Chinese type where the title is Chinese."""
    chinese = not title.isascii()
    head, body, width = (HEI_BOLD, SONG, 36) if chinese else (BOLD, SERIF, 74)
    sheet = Sheet(fonts, 210, 297, DPI)
    sheet.text(25, 24, title, head, 18)
    y = 42.0
    for paragraph in paragraphs:
        for line in wrap(paragraph, width):
            sheet.text(25, y, line, body, 11.5)
            y += 7
        y += 5
    return sheet.image


def notice_zh(fonts: Fonts) -> Image.Image:
    """A page of Chinese prose."""
    return page(fonts, "阅览室开放通知", [
        "各位读者：自四月一日起，本馆二楼阅览室开放时间调整为每日上午九点至晚上八点，周一闭馆整理。",
        "古籍查阅须提前两天预约，每次限借三册。请勿携带食物与饮料入内，并将手机调至静音。",
        "扫描件可在服务台申请，每页收费五角，当日领取。如有疑问，请致电服务台。",
        "晨星图书馆  二〇二六年三月十五日",
    ])  # fmt: skip


REPORT = [
    ("Annual report 2026", [
        "This report sums up the work of the scanning room in its second year. It was written from the log of the "
        "machines and from the notes of the people who fed them.",
        "The room made 312,400 pictures of 2,118 volumes. Two volumes were too fragile to open and were returned "
        "to the stacks. Every other page has a picture, a text and a place in the catalogue.",
    ]),
    ("Quality and corrections", [
        "One page in two hundred was read again by hand. The rate of wrong characters was 0.4 per cent on print "
        "and 1.6 per cent on typescript.",
        "Most corrections concerned numerals in worn tables. They were entered on the day they were found.",
    ]),
    ("Plans for next year", [
        "The newspapers come first: forty metres of shelf, folded, yellow and wanted by everybody. We expect "
        "90,000 leaves and shall need a second cradle by September.",
    ]),
]  # fmt: skip

MINUTES = [
    ("Minutes of the board", [
        "The board met on 3 February 2026 at ten in the morning. Present were Miriam Holloway, Tobias Reed and "
        "Anna Lindqvist. The minutes of the January meeting were approved without changes.",
        "The treasurer reported a balance of 18,240.55 and asked that the heating bill be paid before the end of "
        "the month. Agreed.",
    ]),
    ("理事会会议纪要", [
        "会议于二〇二六年二月三日上午十时召开。出席人员：何美琳、李德明、安娜。会议通过了一月份的会议记录。",
        "财务负责人报告账户余额为18240.55元，建议在月底之前支付取暖费用。全体同意。",
    ]),
]  # fmt: skip

FAX = [
    ("FAX 1/2 Eastport Harbour Office", [
        "To: Lantern Street Library. From: Harbour Office. Date: 9 March 2026.",
        "Please send us copies of the keeper's book for the years 1871 to 1874. We need them for the anniversary "
        "of the lighthouse in June and will return them by registered post.",
    ]),
    ("FAX 2/2 List of volumes", [
        "Volume 1, shelf mark EH 1871. Volume 2, shelf mark EH 1872. Volume 3, shelf mark EH 1873. Volume 4, "
        "shelf mark EH 1874.",
        "Yours sincerely, Clara Whitcombe, harbour master.",
    ]),
]  # fmt: skip
