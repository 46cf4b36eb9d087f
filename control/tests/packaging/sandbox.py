"""This system with a layer over it that takes all writes, so that packages can be installed and removed for real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# /run and /tmp of the host are not in it, so that no maintainer script finds the host's systemd.
# /proc can be read alone, so that none changes a setting of the kernel.
SET_UP = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc -o ro proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
echo ready
exec cat
"""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class SandboxError(Exception):
    """The layer was refused, or a command in it failed."""


def allowed() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    return (
        os.geteuid() == 0
        and subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode
        == 0
    )


class Sandbox:
    """Lasts until `close`; `folder` is where the layer is mounted, for this namespace alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", SET_UP, "sh", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            _, complaint = self._holder.communicate()
            raise SandboxError(f"no layer over this system: {complaint}")

    def command(self, *words: str, user: str = "0:0") -> list[str]:
        """The command line, seen from outside, that runs `words` inside."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount"]
        return [*enter, "chroot", f"--userspec={user}", str(self._folder / "root"), *words]

    def try_to(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command and lets it fail."""
        return subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )

    def run(self, *words: str) -> str:
        """What a command prints; it has to succeed."""
        done = self.try_to(*words)
        if done.returncode != 0:
            raise SandboxError(f"{' '.join(words)} failed: {done.stdout}")
        return done.stdout

    def put(self, content: bytes | str, path: str) -> None:
        """Writes a file."""
        data = content if isinstance(content, bytes) else content.encode()
        subprocess.run(self.command("tee", path), input=data, stdout=subprocess.DEVNULL, check=True)

    def changed(self) -> set[str]:
        """All files, links and directories that were written and are there."""
        upper = subprocess.run(
            [
                "nsenter",
                f"--target={self._holder.pid}",
                "--mount",
                "find",
                str(self._folder / "upper"),
            ]
            # What was deleted is a character device in the layer.
            + ["-mindepth", "1", "-not", "-type", "c", "-printf", "/%P\\n"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return set(upper.stdout.splitlines())

    def close(self) -> None:
        """Takes the layer away."""
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()
