// Segment a folder share by share with Nextflow.
//
//   nextflow run main.nf --scans /data/scans --masks /data/masks --modality ct --shares 64
//
// Masks are written to params.masks itself, not staged: a share that was interrupted goes on where
// it was when Nextflow is started again with -resume.
params.shares = 8

process segment {
    cpus 4
    memory '16 GB'
    tag "${number}/${params.shares}"

    input:
    val number

    script:
    """
    esp-medsam segment '${params.scans}' '${params.masks}' --modality '${params.modality}' \
      --part ${number}/${params.shares} --retry 2
    """
}

workflow {
    segment(Channel.of(1..params.shares))
}
