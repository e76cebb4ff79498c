"""Languages of what stands on pages, and none where nothing tells."""

import subprocess
import sys

import pytest

from worker.outputs.language import detect


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("zh", "阅览室开放通知：自四月一日起，本馆二楼阅览室开放时间调整。"),
        ("zh", "圖書館開放時間通知，請各位讀者注意"),
        ("zh", "销售发票 发票号码：2026-00418 INVOICE No"),
        ("ja", "図書館の開館時間についてのお知らせです。"),
        ("ko", "도서관 개관 시간 안내입니다."),
        ("en", "The reading room is open from Monday to Friday."),
        ("de", "Der Lesesaal ist montags bis freitags geöffnet."),
        ("fr", "La salle de lecture est ouverte du lundi au vendredi."),
        ("es", "La sala de lectura está abierta de lunes a viernes para todos."),
        ("it", "La sala di lettura è aperta dal lunedì al venerdì per tutti."),
        ("nl", "De leeszaal is geopend van maandag tot en met vrijdag."),
        ("ru", "Читальный зал открыт с понедельника по пятницу."),
        ("ar", "قاعة المطالعة مفتوحة من الاثنين إلى الجمعة"),
        ("el", "Το αναγνωστήριο είναι ανοιχτό από Δευτέρα έως Παρασκευή."),
        ("th", "ห้องอ่านหนังสือเปิดวันจันทร์ถึงวันศุกร์"),
        ("hi", "वाचनालय सोमवार से शुक्रवार तक खुला रहता है।"),
        ("vi", "Phòng đọc mở cửa từ thứ hai đến thứ sáu hàng tuần."),
        ("en", "$$\\sum_{i} \\frac{a_i}{b}$$ where the sum is taken over all of the terms above."),
    ],
)
def test_a_sentence_tells_its_language(code: str, text: str) -> None:
    assert detect(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        "12 34 56 78 90",
        "x^2 + y^2 = z^2",
        "LAMAR 200 BPM",
        "\\(\\frac{a}{b}\\)",
        "Ω",
        "東京",
        "Читальный зал",
        "a" * 400,
    ],
)
def test_short_texts_and_figures_tell_none(text: str) -> None:
    assert detect(text) is None


def test_the_model_is_not_loaded_before_a_text_needs_it() -> None:
    code = (
        "from worker.outputs import language;"
        "language.detect('阅览室开放通知'); assert language.identifier.cache_info().misses == 0;"
        "assert language.detect('The reading room is open from Monday to Friday.') == 'en'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
