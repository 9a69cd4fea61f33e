"""The enclosure of one server: its uid, private mounts and /proc, and the control group it joins first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Enclosure"]

# Runs as root in a mount namespace of its own: no line of ours runs between fork and exec in the hub.
# Arguments: uid home passwd | cgroup.procs files | paths to keep visible | folders to hide | devices to mask | command,
# the parts separated by `--`. The shell joins the groups first, so that no child is ever outside them.
_SCRIPT = r"""set -eu
umask 022
uid=$1 home=$2 passwd=$3; shift 3
while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift
mount --bind "$passwd" /etc/passwd
mount -t proc -o hidepid=2,nosuid,nodev,noexec proc /proc
mount -t tmpfs -o mode=1777,nosuid,nodev,size=1g tmpfs /dev/shm
mkdir -m 0700 /dev/shm/kept
n=0
for path; do
  [ "$path" != -- ] || break
  n=$((n + 1)); mkdir "/dev/shm/kept/$n"; mount --rbind "$path" "/dev/shm/kept/$n"
done
mount -t tmpfs -o mode=1777,nosuid,nodev,size=2g tmpfs /tmp
n=0
while [ "$1" != -- ]; do
  n=$((n + 1)); mkdir -p "$1"; mount --move "/dev/shm/kept/$n" "$1"; rmdir "/dev/shm/kept/$n"; shift
done; shift
rmdir /dev/shm/kept
while [ "$1" != -- ]; do [ ! -d "$1" ] || mount -t tmpfs -o mode=0555,size=4k tmpfs "$1"; shift; done; shift
while [ "$1" != -- ]; do mount --bind /dev/null "$1"; shift; done; shift
cd "$home"
umask 077
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
"""
_TMP = Path("/tmp")  # noqa: S108 - the folder that gets covered, not one we write to


@dataclass(frozen=True)
class Enclosure:
    """What one server sees and who it is.

    hidden: folders covered by an empty one. masked: devices that answer like /dev/null.
    """

    uid: int
    home: Path
    passwd: Path
    groups: Iterable[Path] = ()
    code: Iterable[Path] = ()
    hidden: Iterable[Path] = ()
    masked: Iterable[Path] = ()

    def wrap(self, command: list[str]) -> list[str]:
        """The command that runs `command` inside."""
        parts = [self.groups, self._kept(), self.hidden, self.masked]
        words = [str(self.uid), str(self.home), str(self.passwd)]
        for part in parts:
            words += [*map(str, part), "--"]
        shell = ["/bin/sh", "-c", _SCRIPT, "enter", *words, *command]
        return ["unshare", "--mount", "--propagation", "private", "--", *shell]

    def _kept(self) -> list[Path]:
        """What lies below /tmp and must stay visible when a private one covers it."""
        wanted = {Path(sys.prefix), Path(sys.base_prefix), self.home, *self.code}
        wanted |= {Path(os.path.realpath(path)) for path in wanted}
        below = {path for path in wanted if _TMP in path.parents}
        return sorted(path for path in below if not below.intersection(path.parents))
