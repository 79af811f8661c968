"""Names of projects, zones and slices, checked before they go anywhere."""

from __future__ import annotations

import dataclasses
import re

_FORMATS = {
    "project": (
        r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "6 to 30 of a-z, 0-9 and -, beginning with a letter, such as my-project-123",
    ),
    "zone": (
        r"[a-z]{2,12}-[a-z]{2,12}\d{1,2}-[a-z]",
        "a region and a letter, such as us-central1-a or europe-west4-b",
    ),
    "name": (
        r"[a-z]([a-z0-9-]{0,37}[a-z0-9])?",
        "at most 39 of a-z, 0-9 and -, beginning with a letter, such as vit-b16",
    ),
    "network": (r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "a network's name, such as default"),
    "subnetwork": (r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "a subnetwork's name, such as default"),
    "service-account": (
        r"[a-z0-9-]{1,63}@[a-z0-9.-]{1,100}\.gserviceaccount\.com",
        "an address such as tpu-runner@my-project-123.iam.gserviceaccount.com",
    ),
    "user": (r"[a-z_][a-z0-9_-]{0,31}", "a login name on the workers, such as tpu"),
    "runtime": (r"[a-z0-9][a-z0-9.-]{2,60}", "a runtime image, such as tpu-vm-tf-2.15.1-pod-pjrt"),
    "workdir": (
        r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^\x00-\x1f]*)?",
        "a directory in a bucket, such as gs://my-bucket/runs/b16: what outlives the slice",
    ),
}


def checked(what: str, value: str) -> str:
    """`value`, if it is a valid project, zone, name, ...

    Raises:
      ValueError: saying what was expected.
    """
    pattern, expected = _FORMATS[what]
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"--{what} is {value!r}; expected {expected}.")
    return value


@dataclasses.dataclass(frozen=True)
class Target:
    """Which slice: project, zone and name, all valid."""

    project: str
    zone: str
    name: str

    def __post_init__(self):
        for field in dataclasses.fields(self):
            checked(field.name, getattr(self, field.name))

    @property
    def parent(self) -> str:
        """The location's resource name."""
        return f"projects/{self.project}/locations/{self.zone}"

    @property
    def node(self) -> str:
        """The node's resource name."""
        return f"{self.parent}/nodes/{self.name}"

    @property
    def queued_resource(self) -> str:
        """The resource name of the request in the queue; it has the node's name."""
        return f"{self.parent}/queuedResources/{self.name}"

    def __str__(self) -> str:
        return f"{self.name} ({self.project}, {self.zone})"
