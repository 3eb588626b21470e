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
    errorStrategy 'finish'  // a share with a bad image ends with status 1; the others go on

    input:
    val number
    val scans
    val masks

    script:
    """
    esp-medsam segment '${scans}' '${masks}' --modality '${params.modality}' \
      --part ${number}/${params.shares} --retry 2
    """
}

workflow {
    for (name in ['scans', 'masks', 'modality'])
        if (!params[name]) error("--${name} must be given")
    scans = file(params.scans).toAbsolutePath().toString()
    masks = file(params.masks).toAbsolutePath().toString()
    segment(Channel.of(1..params.shares), scans, masks)
}
