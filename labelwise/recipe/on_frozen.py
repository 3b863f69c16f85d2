"""What recipes share that learn from scratch, or on what a frozen backbone says of images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Self

from labelwise.errors import OptionError
from labelwise.recipe.base import Task
from labelwise.recipe.probe import Probe
from labelwise.recipe.scratch import FromScratch

FROZEN = "frozen"  # the preset with a backbone
BACKBONE = "efficientnet-lite0"


class OnFrozen(FromScratch):
    """A recipe with a field `backbone`: None for a network from scratch."""

    backbone: str | None

    def refuse_backbone(self, given: str) -> None:
        """Refuse a backbone beside fields of a network from scratch.

        Args:
            given: these, as the user wrote them.

        Raises:
            OptionError: there is a backbone.
        """
        if self.backbone is not None:
            raise OptionError(
                f"{self.name}(backbone={self.backbone}, {given}): a network from scratch has no "
                "backbone. Leave one of the two out."
            )

    @classmethod
    def is_meant(cls, field: str, value: Any, given: Collection[str]) -> bool:
        """`--backbone` is not for a network from scratch."""
        return field != "backbone" or not {"preset", "layers"} & set(given)

    @property
    def probe(self) -> Probe:
        """What looks at images by the same frozen network."""
        return Probe(self.backbone or BACKBONE, self.image_size, self.color, self.resize)

    def sizes(self, task: Task) -> Sequence[Self]:
        if self.backbone is None:
            return super().sizes(task)
        return [replace(self, image_size=size.image_size) for size in self.probe.sizes(task)]
