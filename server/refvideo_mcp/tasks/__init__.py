"""The MCP Tasks extension: a client that declares it gets a handle to poll instead of an answer."""

from refvideo_mcp.tasks.extension import TASKS, Ctx, Task, TaskBackend, Tasks, no_such_task
from refvideo_mcp.tasks.jobs import JobTasks

__all__ = ["TASKS", "Ctx", "JobTasks", "Task", "TaskBackend", "Tasks", "no_such_task"]
