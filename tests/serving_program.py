"""Serve a folder with settings that the command has no options for: `serving_program.py FOLDER JSON`."""

import json
import os
import socket
import sys
from pathlib import Path

from mnist_hpo.executors.environment import worker_environment

os.environ.update(worker_environment())

from mnist_hpo.serving.alias import Follow
from mnist_hpo.serving.limits import Limits
from mnist_hpo.serving.model import ModelSource
from mnist_hpo.serving.server import Settings, serve
from mnist_hpo.serving.service import Service

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))


def ready(service: Service) -> None:
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)


follow = None
if "alias" in settings:  # A file with the name of a version, which is a folder beside it.
    alias = Path(settings["alias"])
    follow = Follow(alias.read_text, lambda version: ModelSource(alias.with_name(version), version), every_s=0.1)
source = ModelSource(folder, follow and follow.current_version())
limits = Limits(**settings.get("limits", {}))
serve(listener, Settings(source, limits, token=settings.get("token"), follow=follow), sys.stderr.fileno(), ready)
