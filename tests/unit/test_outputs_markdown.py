"""The plain text of Markdown answers."""

import pytest

from worker.outputs.markdown import plain


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# Title\n\nSome **bold** words.", "Title\n\nSome bold words."),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1 &amp; 2</td><td></td></tr></table>", "a\tb\n1 & 2"),
        ("| a | b |\n|---|:-:|\n| 1 | x \\| y |\n\nafter", "a\tb\n1\tx | y\n\nafter"),
        ("|x| is\n|y|", "|x| is\n|y|"),
        ("![a figure](1.png) and [a link](https://a.example)", "a figure and a link"),
        ("```mermaid\ngraph TD\n  A --> B | C\n```", "graph TD\n  A --> B | C"),
        ("```\n| a |\n|---|\n```", "| a |\n|---|"),
        ("> quoted\n\n\n\n---\n1. one", "quoted\n\n---\n1. one"),
        ("$$a < b \\\\ **c$$ and $x_1 &lt; 2$", "$$a < b \\\\ **c$$ and $x_1 < 2$"),
        (
            "\\begin{array}{l} a &= b \\\\ c &= d \\end{array}",
            "\\begin{array}{l} a &= b \\\\ c &= d \\end{array}",
        ),
        ("if a<b and c>d then", "if a<b and c>d then"),
        ("", ""),
    ],
)
def test_marks_go_and_words_stay(markdown: str, text: str) -> None:
    assert plain(markdown) == text
