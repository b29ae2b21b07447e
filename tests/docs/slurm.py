"""A pretended Slurm of one machine, as far as submitit asks for one."""

from __future__ import annotations

from pathlib import Path

COMMANDS = {
    # Starts the job at once, in the background; its process number is the job's
    "sbatch": """#!/bin/bash
export SLURM_JOB_ID=$$ SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here
export SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
bash "${!#}" >"$0.$$.log" 2>&1 &
echo "Submitted batch job $$"
""",
    # --unbuffered --output FILE --error FILE COMMAND
    "srun": '#!/bin/bash\nexec "${@:6}"\n',
    "sacct": "#!/bin/bash\necho 'JobID|State|NodeList'\n",
}


def write_commands(folder: Path) -> Path:
    """sbatch, srun and sacct, to be put first in PATH. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in COMMANDS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
