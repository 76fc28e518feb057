"""Where PyTorch evaluates: names of devices checked before anything is loaded onto them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final, Literal

from chinese_alpaca_rag.errors import MissingExtraError, WrongUsageError
from chinese_alpaca_rag.language import Words

DeviceMap = Literal["auto"] | dict[str, int | str] | None

_KINDS: Final = frozenset({"cpu", "cuda", "mps", "xpu"})


def find_device(torch: Any, device: str) -> Any:
    """The ``torch.device`` that ``device`` means. Raises ``WrongUsageError`` where this machine has none such."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as problem:
        raise _no_device(torch, device) from problem
    if found.type not in _KINDS:
        raise _no_device(torch, device)
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        raise _no_device(torch, device) from problem
    return found


def placement(torch: Any, device_map: DeviceMap, device: Any) -> Any:
    """from_pretrained's ``device_map``; ``None`` is the CPU alone, for which accelerate is not needed."""
    if device_map is None or (device_map == "auto" and device.type in ("cpu", "mps")):
        placed: Any = None if device.type == "cpu" else {"": device}
    elif device_map == "auto":
        placed = "auto"
    elif isinstance(device_map, dict) and device_map:
        placed = {module: _part(torch, module, part) for module, part in device_map.items()}
    else:
        raise WrongUsageError(
            Words(zh=f"device_map 不能是 {device_map!r}。", en=f"device_map cannot be {device_map!r}."),
            hint=Words(
                zh="用 None、'auto'，或模块名到设备的字典，如 {'': 'cuda:0'}。",
                en="Use None, 'auto', or a dict of module names to devices, such as {'': 'cuda:0'}.",
            ),
        )
    if placed is not None and find_spec("accelerate") is None:
        raise MissingExtraError.for_package("accelerate", "hf")
    return placed


def _part(torch: Any, module: object, part: object) -> Any:
    """The device of one entry; "disk" is refused, because it would write the weights elsewhere a second time."""
    if not isinstance(module, str) or isinstance(part, bool) or not isinstance(part, int | str) or part == "auto":
        raise _no_device(torch, f"{module}: {part}")
    return find_device(torch, f"cuda:{part}" if isinstance(part, int) else part)


def _no_device(torch: Any, device: str) -> WrongUsageError:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    have = ["auto", "cpu", *(f"cuda:{index}" for index in range(count))]
    if torch.backends.mps.is_available():
        have.append("mps")
    names = ", ".join(have)
    return WrongUsageError(
        Words(zh=f"这台机器上没有设备“{device}”。", en=f"There is no device called “{device}” on this machine."),
        hint=Words(
            zh=f"可用：{names}。若有 NVIDIA GPU，请安装带 CUDA 的 PyTorch。",
            en=f"Use one of: {names}. If it has an NVIDIA GPU, install PyTorch with CUDA.",
        ),
    )
