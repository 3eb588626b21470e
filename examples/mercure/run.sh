#!/bin/sh
# mercure names the folder of the job's series, and the one for what is to be sent on.
# ESP_MEDSAM_OPTIONS, set in the module's environment, holds further options of `esp-medsam segment`.
set -eu
: "${MERCURE_IN_DIR:?mercure sets it}" "${MERCURE_OUT_DIR:?mercure sets it}"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 143' TERM
status=0
# Options are words: no name with spaces among them.
# shellcheck disable=SC2086
esp-medsam segment "$MERCURE_IN_DIR" "$results" --output_format dicom-seg --workers 0 \
  ${ESP_MEDSAM_OPTIONS:-} || status=$?
# What is done is sent, also if another series failed. `+`, not `\;`: a copy that fails counts.
find "$results" -name '*.dcm' -exec cp -t "$MERCURE_OUT_DIR" {} + || status=1
exit "$status"
