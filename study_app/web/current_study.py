"""The study this process serves: set once by the server, read by the page script, which Streamlit reruns for every click."""

from study_app.service.study import StudyService

_services: list[StudyService] = []


def use(service: StudyService) -> None:
    """Make `service` the one the pages show."""
    _services[:] = [service]


def current() -> StudyService:
    """Return the service the pages show; raise RuntimeError before the server set one."""
    if not _services:
        raise RuntimeError("no study is served by this process")
    return _services[0]
