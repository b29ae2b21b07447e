"""A pretended Slurm of one machine, as far as submitit asks for one."""

from __future__ import annotations

from pathlib import Path

# A job's tasks start at once, in the background, as sbatch's own job environment has them
SBATCH = """#!/bin/bash
script="${!#}"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_JOB_NODELIST=here SLURM_ARRAY_JOB_ID=7
for task in $(seq 0 "$last"); do
  SLURM_JOB_ID=$((8 + task)) SLURM_ARRAY_TASK_ID=$task bash "$script" >/dev/null 2>&1 &
done
echo "Submitted batch job 7"
"""
COMMANDS = {
    "sbatch": SBATCH,
    # --unbuffered --output FILE --error FILE COMMAND
    "srun": '#!/bin/bash\nexec "${@:6}" >"$3" 2>"$5"\n',
    "sacct": "#!/bin/bash\nprintf 'JobID|State|NodeList\\n7_[0-99]|RUNNING|here\\n'\n",
}


def write_commands(folder: Path) -> Path:
    """sbatch, srun and sacct, to be put first in PATH. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in COMMANDS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
