"""PDFs that the corpus lacks, each made when it is needed: bombs, thousands of pages, passwords, scripts, endless streams."""

import io
import zlib

from files import encoded, pdf, pdf_page
from PIL import Image

DOT = pdf_page("0 0 9 9 re f", "0 0 72 72")
_BLOCK = 1 << 20


def stream(entries: str, data: bytes) -> str:
    return f"<<{entries}/Length {len(data)}>>stream\n{data.decode('latin-1')}\nendstream"


def deflated(byte: bytes, size: int, times: int = 1) -> bytes:
    """One byte so many times, deflated again and again; its checksum is wrong, which no reader of PDFs minds."""
    packer = zlib.compressobj(9)
    first = packer.compress(byte * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(byte * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    data = first + more * (size // _BLOCK) + packer.flush()
    for _ in range(times - 1):
        data = zlib.compress(data, 9)
    return data


def image_pdf(width: int, height: int, data: bytes, entries: str) -> bytes:
    """A page that shows one image."""
    picture = stream(f"/Type/XObject/Subtype/Image/Width {width}/Height {height}{entries}", data)
    return pdf(
        pdf_page("72 0 0 72 0 0 cm /I Do", "0 0 72 72", Resources="<</XObject<</I 3 0 R>>>>"),
        extra=(picture,),
    )


def gray_image_pdf(width: int, height: int, bits: int, times: int = 1) -> bytes:
    """A page with an image of zeros."""
    entries = f"/ColorSpace/DeviceGray/BitsPerComponent {bits}/Filter[{'/FlateDecode ' * times}]"
    return image_pdf(width, height, deflated(b"\0", width * height * bits // 8, times), entries)


def content_bomb(size: int, times: int) -> bytes:
    """A page whose content is so many bytes of blanks, deflated again and again."""
    content = stream(f"/Filter[{'/FlateDecode ' * times}]", deflated(b" ", size, times))
    return pdf(pdf_page("", "0 0 72 72", Contents="3 0 R"), extra=(content,))


def jbig2_pdf(width: int = 320, height: int = 240, claimed: tuple[int, int] | None = None) -> bytes:
    """A page with a JBIG2 image: one region in the code of fax pages, which Pillow can write."""
    page = Image.new("1", (width, height), 1)
    page.paste(0, (10, 10, width // 2, height // 2))
    tiff = encoded(page, "TIFF", compression="group4")
    strip = Image.open(io.BytesIO(tiff))
    offset, length = strip.tag_v2[273][0], strip.tag_v2[279][0]
    coded = tiff[offset : offset + length]
    wide, high = claimed or (width, height)
    info = wide.to_bytes(4, "big") + high.to_bytes(4, "big") + bytes(8) + b"\0" + bytes(2)
    region = wide.to_bytes(4, "big") + high.to_bytes(4, "big") + bytes(8) + b"\0" + b"\1" + coded
    data = _segment(0, 48, info) + _segment(1, 38, region)
    return image_pdf(wide, high, data, "/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/JBIG2Decode")


def _segment(number: int, kind: int, data: bytes) -> bytes:
    return number.to_bytes(4, "big") + bytes((kind, 0, 1)) + len(data).to_bytes(4, "big") + data


def jpx_pdf(data: bytes, width: int, height: int) -> bytes:
    return image_pdf(width, height, data, "/Filter/JPXDecode")


def objects(*bodies: str) -> bytes:
    """A PDF of just these objects, without a table of where they are; the first is its catalog."""
    lines = [f"{number} 0 obj\n{body}\nendobj\n" for number, body in enumerate(bodies, 1)]
    size = len(bodies) + 1
    return f"%PDF-1.4\n{''.join(lines)}trailer<</Size {size}/Root 1 0 R>>\n%%EOF".encode("latin-1")


def pages_claimed(count: int) -> bytes:
    """A document of one page that claims to have more."""
    return objects(
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[3 0 R]/Count {count}>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>",
    )


def form_loop() -> bytes:
    """A form that draws itself, twice each time."""
    itself = "/Type/XObject/Subtype/Form/BBox[0 0 72 72]/Resources<</XObject<</F 3 0 R>>>>"
    page = pdf_page("/F Do", "0 0 72 72", Resources="<</XObject<</F 3 0 R>>>>")
    return pdf(page, extra=(stream(itself, b"/F Do /F Do"),))


def scripted() -> bytes:
    """Scripts that never end, wherever a PDF may have one."""
    script = "<</S/JavaScript/JS(while\\(true\\){app.alert\\(1\\)})>>"
    page = pdf_page("0 0 9 9 re f", "0 0 72 72", AA=f"<</O {script}>>")
    return pdf(
        page, catalog=f"/OpenAction {script}/AA<</WC {script}>>/Names<</JavaScript<</Names[(a){script}]>>>>"
    )


def xfa() -> bytes:
    form = stream("", b"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'><template/></xdp:xdp>")
    return pdf(DOT, extra=(form,), catalog="/AcroForm<</XFA 3 0 R/Fields[]>>/NeedsRendering true")


def attachment() -> bytes:
    file = stream("/Type/EmbeddedFile", b"MZ" * 1000)
    spec = "<</Type/Filespec/F(a.exe)/EF<</F 3 0 R>>>>"
    return pdf(DOT, extra=(file, spec), catalog="/Names<</EmbeddedFiles<</Names[(a)4 0 R]>>>>")


def outside() -> bytes:
    """A page whose content lies in a file of whoever reads it, and an action that starts a program."""
    content = "<</Length 0/F(/etc/passwd)>>stream\n\nendstream"
    page = pdf_page("", "0 0 72 72", Contents="3 0 R")
    return pdf(page, extra=(content,), catalog="/OpenAction<</S/Launch/F(/bin/sh)>>")


def xref_loop() -> bytes:
    whole = pdf(DOT, DOT, DOT)
    return whole.replace(b"trailer<<", b"trailer<</Prev %d" % whole.index(b"xref\n0"))
