#!/bin/sh
# Many nodes: sbatch docs/launch/slurm.sh RECIPE [key=value …]
# One task per node starts the processes of that node. A job that was preempted is requeued and resumes.
#SBATCH --job-name=lep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node gpu \
    --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m lep.cli.main pretrain "$@" parallel=fsdp2
