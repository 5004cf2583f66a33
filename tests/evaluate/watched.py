"""An engine that notes what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmrecipes.evaluate.engines.hf import HfEngine


@dataclass
class Watched:
    """Notes which samples an engine is asked for."""

    engine: HfEngine
    asked: list[str] = field(default_factory=list)

    def answers(self, samples: Sequence[Any], images: Any) -> Any:
        self.asked += [sample.id for sample in samples]
        return self.engine.answers(samples, images)

    def about(self) -> dict[str, Any]:
        return self.engine.about()
