#!/bin/bash
# Segment a folder with a Slurm array; each task takes one share of it.
#
#   export IN=/data/scans OUT=/data/masks MODALITY=ct SHARES=64
#   sbatch --array=1-$SHARES slurm.sh
#
# A task that was preempted or ran out of time goes on where it was: `scontrol requeue JOB`, or the
# same sbatch again. With GPUs, add --gres=gpu:1. Keep SHARES as it is when you repeat some tasks.
#SBATCH --job-name=esp-medsam
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=esp-medsam-%A_%a.log
set -eu
exec esp-medsam segment "$IN" "$OUT" --modality "$MODALITY" \
  --part "$SLURM_ARRAY_TASK_ID/$SHARES" --retry 2
