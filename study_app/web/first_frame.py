"""Removal of install path, versions and machine ids from the first message of a page."""

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

# Every such message names the script; a search for its name is cheaper than parsing every message.
_SCRIPT = b"streamlit_script"


def without_machine(data: bytes) -> bytes:
    """Return a message to the browser without install path, versions of Python and Streamlit, and machine ids."""
    if _SCRIPT not in data:
        return data
    message = ForwardMsg()
    message.ParseFromString(data)
    if message.WhichOneof("type") != "new_session":
        return data
    session = message.new_session
    session.main_script_path = ""
    environment, user = session.initialize.environment_info, session.initialize.user_info
    for part in (environment, user):
        for descriptor, _ in part.ListFields():
            part.ClearField(descriptor.name)
        # the page requires the part itself
        part.SetInParent()
    cleaned: bytes = message.SerializeToString()
    return cleaned
