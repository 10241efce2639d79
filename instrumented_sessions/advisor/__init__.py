"""What lock waits would have been under another granularity or other permits, from a recording of one run.

Everything here is plain computation, but for `save` and `load`; it may be called from any thread.
"""

from .advice import Advice, Verdict, advise
from .figures import Figures
from .files import load, save
from .options import Option
from .recording import OpeningRecord, Recording, RecordingError
from .replay import Played, replay

__all__ = [
    "Recording",
    "OpeningRecord",
    "RecordingError",
    "save",
    "load",
    "Option",
    "replay",
    "Played",
    "Figures",
    "advise",
    "Advice",
    "Verdict",
]
