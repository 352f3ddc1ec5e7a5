"""The table [execution]: where and how runs are executed, which is not part of their identity."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from testbed.config.strict import Table
from testbed.config.values import Text
from testbed.units import parse_count, parse_seconds

_OURS = {
    "array",
    "cpus-per-task",
    "error",
    "input",
    "job-name",
    "mem",
    "nodes",
    "no-requeue",
    "ntasks",
    "ntasks-per-node",
}
_OURS |= {"open-mode", "output", "requeue", "signal", "time", "wrap"}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,+:@-]*$", max_length=256)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=64)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Bytes = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]


class Slurm(Table):
    """The table [execution.slurm]; keys that are not given are left to the cluster's defaults."""

    partition: Name | None = Field(None, description="partition of the jobs")
    account: Name | None = Field(None, description="account that is charged")
    qos: Name | None = Field(None, description="quality of service")
    time: Seconds = Field(
        14_400.0, ge=60, description='time limit of a job, for example "4h"; a run that needs longer is queued again'
    )
    notice: Seconds = Field(120.0, ge=1, description="time before the limit at which a run writes its checkpoint")
    cpus: int = Field(1, ge=1, le=1024, description="CPUs for each process of a run")
    memory: Bytes | None = Field(
        None, description='bytes for a job, for example "16G"; by default the plan\'s estimate'
    )
    poll: Seconds = Field(10.0, ge=0.1, description="time between two queries of the queue")
    extra: dict[Key, str | int | bool] = Field(
        default_factory=dict,
        description='further options of sbatch by their long names, for example { constraint = "a100" }',
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.notice > self.time / 4:  # Slurm checks its clock periodically and may signal a minute early
            raise ValueError("notice is at most a quarter of time")
        return self

    @field_validator("extra")
    @classmethod
    def _plain(cls, extra: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for key, value in extra.items():
            if key in _OURS:
                raise ValueError(
                    f"{key} is set by the executor: see the keys of [execution.slurm] and execution.workers"
                )
            if value is False or (isinstance(value, str) and not value.isprintable()):
                raise ValueError(f"{key} is a text of one line, a whole number, or true for an option without a value")
        return extra


class Ray(Table):
    """The table [execution.ray]."""

    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/\[\]-]*$", max_length=256)] = Field(
        "auto", description='"auto" (the cluster of this machine), "local" (a new one here) or "host:port"'
    )
    cpus: float = Field(1.0, ge=0, le=1024, description="CPUs for each process of a run")
    gpus: float = Field(
        1.0, gt=0, le=1, description="share of a GPU for each run on GPUs: 0.25 lets four runs share one"
    )


class Execution(Table):
    """The table [execution]."""

    executor: Text = Field("local", description='"local", "slurm", "ray" or "package.module:Class"')
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description='"auto", "cpu" or "cuda"')
    workers: int | None = Field(None, ge=1, le=4096, description="worker processes; by default one per core or GPU")
    checkpoint_seconds: float = Field(60.0, gt=0, description="longest time between two checkpoints of a run")
    lease_seconds: float = Field(
        60.0, ge=1, description="a run is taken over when its owner on another machine has been silent for this long"
    )
    hang_seconds: float = Field(
        900.0, ge=1, description="a worker that makes no step for this long is ended, and its runs are retried"
    )
    slurm: Slurm | None = Field(None, description="settings of the slurm executor")
    ray: Ray | None = Field(None, description="settings of the ray executor")
