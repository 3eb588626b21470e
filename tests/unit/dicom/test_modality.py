from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DermoscopicPhotographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    OphthalmicPhotography8BitImageStorage,
    OphthalmicTomographyImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLEndoscopicImageStorage,
    VLPhotographicImageStorage,
    VLWholeSlideMicroscopyImageStorage,
    XRayAngiographicImageStorage,
)

from esp_medsam.dicom.modality import SECONDARY_CAPTURE, SOP_CLASS_MODALITIES, resolve_modality
from esp_medsam.errors import ModalityConflictError, ModalityError
from esp_medsam.modality import ModalityTable


Settle = Callable[..., tuple[str, str]]


@pytest.fixture
def settled(table: ModalityTable) -> Settle:
    def call(
        dicom_modality: str | None,
        sop_class_uid: str | None,
        given: str | None = None,
        *,
        force: bool = False,
    ) -> tuple[str, str]:
        return resolve_modality(
            dicom_modality, sop_class_uid, given, table, force=force, source="a.dcm"
        )

    return call


class TestWithoutTheUser:
    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class_uid", "name"),
        [
            ("CT", CTImageStorage, "ct"),
            ("CT", EnhancedCTImageStorage, "ct"),
            ("MR", MRImageStorage, "mri"),
            ("MR", EnhancedMRImageStorage, "mri"),
            ("US", UltrasoundMultiFrameImageStorage, "ultrasound"),
            ("IVUS", UltrasoundMultiFrameImageStorage, "ultrasound"),
            ("CR", ComputedRadiographyImageStorage, "xray"),
            ("DX", DigitalXRayImageStorageForPresentation, "xray"),
            ("RF", XRayAngiographicImageStorage, "xray"),
            ("ES", VLEndoscopicImageStorage, "endoscopy"),
            ("OP", OphthalmicPhotography8BitImageStorage, "fundus"),
            ("SM", VLWholeSlideMicroscopyImageStorage, "microscopy"),
            ("DMS", DermoscopicPhotographyImageStorage, "dermoscopy"),
            ("XC", DermoscopicPhotographyImageStorage, "dermoscopy"),
            ("PX", DigitalXRayImageStorageForPresentation, "xray"),
        ],
    )
    def test_the_file_says_it(
        self, settled: Settle, dicom_modality: str, sop_class_uid: str, name: str
    ) -> None:
        assert settled(dicom_modality, sop_class_uid) == (name, "dicom")

    def test_one_attribute_is_enough(self, settled: Settle) -> None:
        assert settled(None, CTImageStorage) == ("ct", "dicom")
        assert settled("", CTImageStorage) == ("ct", "dicom")
        assert settled("OT", CTImageStorage) == ("ct", "dicom")
        assert settled(" ct ", None) == ("ct", "dicom")
        assert settled("CT", "1.2.3") == ("ct", "dicom")

    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class_uid", "reason"),
        [
            ("XC", VLPhotographicImageStorage, "'XC' leaves it open"),
            ("OT", None, "'OT' leaves it open"),
            ("OT", SecondaryCaptureImageStorage, "a secondary capture does not say it"),
            ("US", SecondaryCaptureImageStorage, "a secondary capture does not say it"),
            (None, MultiFrameTrueColorSecondaryCaptureImageStorage, "a secondary capture"),
            (None, None, "its DICOM Modality is empty"),
        ],
    )
    def test_neutral_files_leave_it_to_the_user(
        self, settled: Settle, dicom_modality: str | None, sop_class_uid: str | None, reason: str
    ) -> None:
        with pytest.raises(
            ModalityError, match=f"modality must be given for a.dcm, .*{reason}"
        ) as caught:
            settled(dicom_modality, sop_class_uid)

        assert caught.type is ModalityError

    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class_uid"),
        [
            ("PT", PositronEmissionTomographyImageStorage),
            (None, PositronEmissionTomographyImageStorage),
            ("SEG", None),
            ("XC", OphthalmicTomographyImageStorage),
        ],
    )
    def test_what_no_modality_lists_is_refused(
        self, settled: Settle, dicom_modality: str | None, sop_class_uid: str | None
    ) -> None:
        with pytest.raises(ModalityError, match="no modality of the table"):
            settled(dicom_modality, sop_class_uid)

    def test_a_file_that_contradicts_itself_is_refused(self, settled: Settle) -> None:
        with pytest.raises(ModalityConflictError, match=r"'CT' \(ct\) and its SOP .*'MR' \(mri\)"):
            settled("CT", MRImageStorage)

    def test_a_value_that_two_modalities_list_leaves_it_to_the_user(
        self, table: ModalityTable
    ) -> None:
        twin = replace(table["mri"], name="mri_t2", index=8)
        both = replace(table, modalities=(*table.modalities, twin))

        with pytest.raises(ModalityError, match=r"'MR' \(mri or mri_t2\)"):
            resolve_modality("MR", None, None, both, source="a.dcm")
        assert resolve_modality("MR", None, "mri_t2", both, source="a.dcm") == ("mri_t2", "user")


class TestWithTheUser:
    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class_uid"),
        [
            ("CT", CTImageStorage),
            ("OT", SecondaryCaptureImageStorage),
            ("CT", SecondaryCaptureImageStorage),
            (None, None),
        ],
    )
    def test_the_word_counts_where_nothing_contradicts_it(
        self, settled: Settle, dicom_modality: str | None, sop_class_uid: str | None
    ) -> None:
        assert settled(dicom_modality, sop_class_uid, "ct") == ("ct", "user")
        assert settled(dicom_modality, sop_class_uid, "ct", force=True) == ("ct", "user")

    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class_uid"),
        [
            ("CT", CTImageStorage),
            ("MR", CTImageStorage),
            ("CT", MRImageStorage),
            ("CT", SecondaryCaptureImageStorage),
            ("PT", None),
        ],
    )
    def test_a_contradiction_is_refused_unless_it_is_forced(
        self, settled: Settle, dicom_modality: str, sop_class_uid: str | None
    ) -> None:
        with pytest.raises(ModalityConflictError, match=r"mri.*`force_modality`"):
            settled(dicom_modality, sop_class_uid, "mri")

        assert settled(dicom_modality, sop_class_uid, "mri", force=True) == ("mri", "forced")

    def test_the_message_names_both(self, settled: Settle) -> None:
        found = r"a\.dcm.*mri.*its DICOM Modality says 'CT' \(ct\)"
        with pytest.raises(ModalityConflictError, match=found):
            settled("CT", CTImageStorage, "mri")

    def test_an_unknown_word_is_refused_even_if_forced(self, settled: Settle) -> None:
        with pytest.raises(ModalityError, match="got 'pet'"):
            settled("PT", None, "pet", force=True)


class TestSopClasses:
    def test_are_those_of_the_standard(self) -> None:
        """Every UID is one that pydicom's dictionary knows as an image storage class."""
        from pydicom.uid import UID

        for uid in (*SOP_CLASS_MODALITIES, *SECONDARY_CAPTURE):
            assert "Storage" in UID(uid).name, uid

    def test_secondary_capture_stands_for_no_modality(self) -> None:
        assert not set(SECONDARY_CAPTURE) & set(SOP_CLASS_MODALITIES)
