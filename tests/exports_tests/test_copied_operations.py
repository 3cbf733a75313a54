"""Operations from outside in exported source: copied with what they use of their own file, or refused with the reason."""

import importlib
from pathlib import Path

import pytest

from nas.exports.handover import ExportError
from nas.exports.source import copied_definitions

HEAD = "import math\nimport torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n"


def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str = "Mine") -> list[str]:
    module = f"sample_operation_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(HEAD + text)
    monkeypatch.syspath_prepend(tmp_path)
    return copied_definitions({"mine": getattr(importlib.import_module(module), name)})


def test_what_a_class_uses_of_its_file_comes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "SLOPE = 0.1\n\n\ndef leaky(x):\n    return F.leaky_relu(x, SLOPE)\n\n\ndef unused():\n    return math.pi\n\n\n"
        "class Mine(nn.Module):\n    def forward(self, x):\n        return leaky(x)\n"
    )
    found = definitions(tmp_path, monkeypatch, text)
    assert [part.split("\n")[0] for part in found] == ["SLOPE = 0.1", "def leaky(x):", "class Mine(nn.Module):"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Mine(nn.Module):\n    rate = math.pi\n", "operation 'mine' uses 'math', and so cannot be copied"),
        ("def conv(x):\n    return x\n\n\nclass Mine(nn.Module):\n    f = conv\n", "its 'conv' has a name that is taken"),
        ("def make():\n    class Inner(nn.Module):\n        pass\n    return Inner\n\n\nMine = make()\n", "of 'Inner' is not found"),
    ],
)
def test_what_cannot_be_copied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        definitions(tmp_path, monkeypatch, text)
