"""A tiny Slurm: its commands as scripts that run jobs on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

#: A job runs when it is submitted. Its status is kept in a file of its number.
SBATCH = """
import os, re, subprocess, sys
from pathlib import Path

folder, words = Path(__file__).parent, sys.argv[1:]
(folder / "asked").open("a").write("\\t".join(words) + "\\n")
(script,) = [word.removeprefix("--wrap=") for word in words if word.startswith("--wrap=")]
log = Path(words[words.index("--output") + 1])
number = 1 + len(list(folder.glob("job-*")))
log.parent.mkdir(parents=True, exist_ok=True)
environment = {**os.environ, "SLURM_JOB_ID": str(number), "SLURM_CPUS_ON_NODE": "1"}
with log.with_name(log.name.replace("%j", str(number))).open("w") as file:
    done = subprocess.run(script, shell=True, env=environment, stdout=file, stderr=file)
(folder / f"job-{number}").write_text("FAILED" if done.returncode else "COMPLETED")
print(number)
"""
STATUS = """
from pathlib import Path

for job in sorted(Path(__file__).parent.glob("job-*")):
    print(f"{job.name.removeprefix('job-')}|{job.read_text()}")
"""
#: The step of a job is the command after the options.
SRUN = """
import os, sys

words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[1:]
os.execvp(words[0], words)
"""
ACCOUNT, NOTHING = "print('lab')", ""
COMMANDS = {
    "sbatch": SBATCH, "sacct": STATUS, "squeue": STATUS, "srun": SRUN, "sinfo": NOTHING,
    "scontrol": NOTHING, "scancel": NOTHING, "sacctmgr": ACCOUNT, "sshare": ACCOUNT,
}  # fmt: skip


def install_slurm(folder: Path) -> Path:
    """Write the commands to a folder, for the front of ``PATH``."""
    folder.mkdir()
    for name, script in COMMANDS.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)
    return folder
