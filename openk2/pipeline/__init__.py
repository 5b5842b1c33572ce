"""The stages of ``openk2 run``, in order, each resumable; and what one does with a finished run."""

from openk2.pipeline.chat import chat
from openk2.pipeline.export import export
from openk2.pipeline.serve import serve
from openk2.pipeline.stages import run, run_stage

__all__ = ["chat", "export", "run", "run_stage", "serve"]
