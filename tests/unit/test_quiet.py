from __future__ import annotations

import logging
import warnings
from threading import Barrier, Event, Thread

import pytest

from esp_medsam.quiet import quietly


LOGGER = logging.getLogger("pydicom")


def talk() -> None:
    warnings.warn("Doe^Jane", UserWarning, stacklevel=2)
    LOGGER.warning("Doe^Jane")


class TestQuietly:
    @pytest.mark.parametrize(
        "name", ["pydicom", "PIL.TiffImagePlugin", "nibabel.global", "highdicom.base", "openjpeg"]
    )
    def test_silences_all_that_reads_whatever_level_it_has(
        self, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        logger = logging.getLogger(name)
        before = logger.level
        try:
            logger.setLevel(logging.DEBUG)
            with caplog.at_level(logging.DEBUG):
                with quietly():
                    logger.critical("Doe^Jane")
                    logging.getLogger(f"{name}.new").critical("Doe^Jane")
                said = caplog.text
                logger.debug("heard again")

            assert said == ""
            assert "heard again" in caplog.text
            assert logger.level == logging.DEBUG
        finally:
            logger.setLevel(before)

    def test_silences_warnings_and_pydicom_and_gives_both_back(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with quietly(), quietly():
            talk()

        assert caplog.text == ""
        with pytest.warns(UserWarning, match="Doe"):
            talk()
        assert "Doe" in caplog.text

    def test_gives_back_what_was_there_after_an_error(self) -> None:
        before = (list(warnings.filters), LOGGER.level)

        with pytest.raises(ZeroDivisionError), quietly():
            1 / 0  # noqa: B018  # for its error

        assert (list(warnings.filters), LOGGER.level) == before

    def test_holds_while_any_thread_reads(self, caplog: pytest.LogCaptureFixture) -> None:
        before = (list(warnings.filters), LOGGER.level)
        both, first_is_out = Barrier(2), Event()
        heard: list[str] = []

        def first() -> None:
            with quietly():
                both.wait(10)
            first_is_out.set()

        def second() -> None:
            with quietly():
                both.wait(10)
                first_is_out.wait(10)
                try:
                    talk()  # a filter of the tests makes an error of what is not silenced
                except UserWarning as warning:
                    heard.append(str(warning))

        threads = [Thread(target=first), Thread(target=second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

        assert first_is_out.is_set()
        assert heard == []
        assert caplog.text == ""
        assert (list(warnings.filters), LOGGER.level) == before
