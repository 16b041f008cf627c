"""Decoding in a separate process, so that a file that crashes or hangs the decoder does not end the run."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from selavi_ref.errors import FilePath, SelaviError, TransientMediaError, printable
from selavi_ref.media.container import import_av
from selavi_ref.media.shared_memory import SharedMemory

A = TypeVar("A")
T = TypeVar("T")

LIMIT = 60.0  # seconds that one call may take
_START_LIMIT = 120.0  # seconds that a process may take to start, such as from a slow disk
_GRACE = 5.0  # seconds after the limit at which a process that the kernel did not end by itself is killed
_MEMORY = 8 << 30  # bytes of address space: a damaged header may ask for more memory than the machine has
_MOST_IDLE, _LARGEST_IDLE = 8, 64 << 20  # decoders that are kept for later calls; bytes of shared memory of each
_PROGRAM = "import sys; sys.path[:] = {path!r}; from selavi_ref.media.decoder import serve; serve(*{files!r})"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class _PipeEnd(Connection):
    """
    End of a pipe that only `close` closes.

    A `Connection` that the garbage collector finds first closes its descriptor and still counts as open; closed again,
    by the decoder that owns it, it would close the file that has got the same number since.
    """

    def __del__(self) -> None:
        pass


def _pipe() -> tuple[_PipeEnd, _PipeEnd]:
    """Return the reading and the writing end of a pipe."""
    read, write = os.pipe()
    return _PipeEnd(read, writable=False), _PipeEnd(write, readable=False)


class DecoderError(TransientMediaError):
    """The decoder crashed on a file, took too long, or needed too much memory; a retry may succeed."""


class Decoder:
    """
    Runs functions on media files in a separate process, one after the other.

    The process imports neither PyTorch nor Numba, uses one thread, and is started with the first call. It is restarted
    after a call that crashed it or took too long; that call raises `DecoderError`. Each forked process and each thread
    needs its own decoder: see `run_guarded`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Connection | None = None
        self._answers: Connection | None = None
        self._shared: SharedMemory | None = None
        self._kills = 0
        self._retired = False

    def call(self, function: Callable[..., T], path: FilePath, *args: Any, limit: float = LIMIT, **kwargs: Any) -> T:
        """
        Return ``function(path, *args, **kwargs)``.

        Parameters
        ----------
        function
            Importable by name; its arguments and result can be pickled.
        path
            The file, named in errors.
        limit
            Seconds after which the process is killed.

        Raises
        ------
        DecoderError
            If the process crashed, took longer than `limit`, or exceeded its memory limit.
        Exception
            What `function` raises.
        """
        requests, answers, shared = self._connect(self._kills)
        try:
            requests.send((_folder(), function, path, args, kwargs, limit))
            answer = answers.recv() if answers.poll(limit + _GRACE) else None
        except (EOFError, OSError):
            answer = None
        except BaseException:  # such as Ctrl-C: a late answer must not be taken for that of the next call
            self.close()
            raise
        if answer is None:
            raise DecoderError(f"{printable(path)}: {self._failure_reason(limit)}", path=path)
        done, result = shared.take(*answer)
        if not done:
            raise result
        value: T = result
        return value

    def close(self) -> None:
        """End the process, if there is one."""
        process = self._process
        self.detach()
        if process is not None:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process, even one that is starting, from another thread; the call that waits for it raises."""
        self._kills += 1
        process = self._process
        if process is not None:
            process.kill()

    def retire(self) -> None:
        """End the process as `kill` does; later calls raise, too."""
        self._retired = True
        self.kill()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def is_ready(self) -> bool:
        """Whether its process is running, and holds little shared memory."""
        running = self._process is not None and self._process.poll() is None
        return running and self._shared is not None and os.fstat(self._shared.file).st_size <= _LARGEST_IDLE

    def detach(self) -> None:
        """Release a process that belongs to the parent of this forked process, without ending it."""
        for end in (self._requests, self._answers, self._shared):
            if end is not None:
                end.close()
        self._process = self._requests = self._answers = self._shared = None

    def _connect(self, kills: int) -> tuple[Connection, Connection, SharedMemory]:
        """
        Start the process if there is none, and return the pipes and the memory shared with it.

        `kills` is the number of calls of `kill` before this one; after another, the new process is ended at once.
        """
        if self._retired:
            raise SelaviError("the process that decodes videos has been ended")
        if self._requests is None or self._answers is None or self._shared is None:
            their_requests, self._requests = _pipe()
            self._answers, their_answers = _pipe()
            self._shared = SharedMemory()
            inherited = (their_requests.fileno(), their_answers.fileno(), self._shared.file)
            try:
                self._process = _start_process(inherited)
            except OSError as error:
                self.detach()
                raise SelaviError(f"the process that decodes videos could not be started: {error.strerror}") from error
            their_requests.close()
            their_answers.close()
            if self._retired or self._kills != kills:  # before `kill` could know the process
                self._process.kill()
            self._await_start()
        return self._requests, self._answers, self._shared

    def _await_start(self) -> None:
        """Wait until the process has imported its modules, which does not count as time of the first call."""
        assert self._answers is not None
        try:
            ready = self._answers.poll(_START_LIMIT) and self._answers.recv()
        except (EOFError, OSError):
            ready = False
        except BaseException:
            self.close()
            raise
        if not ready:
            self.close()
            raise SelaviError(f"the process that decodes videos could not be started ({sys.executable})")

    def _failure_reason(self, limit: float) -> str:
        """End the process, and return the reason why it gave no answer."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(1.0)
        except subprocess.TimeoutExpired:
            status = -signal.SIGALRM
        self.close()
        if status == -signal.SIGALRM:
            return f"reading it took longer than {limit:g} s"
        if status < 0:
            return f"the decoder crashed on it ({signal.Signals(-status).name})"
        return f"the decoder ended on it with status {status}"


def _start_process(files: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start the process of a decoder, which inherits these file descriptors."""
    path = [os.fspath(place) for place in sys.path if isinstance(place, (str, os.PathLike))]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(path=path, files=files)],
        pass_fds=files,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # messages of C libraries before they crash
        env={**os.environ, **_ONE_THREAD},
        start_new_session=True,  # Ctrl-C goes to the program, which then closes its decoders
    )


class _IdleDecoders:
    """Pool of idle decoders, whose processes are kept running because a new one takes long to start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoders: list[Decoder] = []

    def take(self) -> Decoder:
        """Return an idle decoder, or a new one."""
        with self._lock:
            while self._decoders:
                if (decoder := self._decoders.pop()).is_ready:
                    return decoder
                decoder.close()
        return Decoder()

    def put(self, decoder: Decoder) -> None:
        """Keep a decoder that its thread no longer uses, or end it."""
        with self._lock:
            if decoder.is_ready and len(self._decoders) < _MOST_IDLE:
                self._decoders.append(decoder)
                return
        decoder.close()

    def close(self) -> None:
        """End all of them."""
        while self._decoders:
            self._decoders.pop().close()

    def forget(self) -> None:
        """Empty the pool in a forked process, without ending the processes, which are those of its parent."""
        for decoder in self._decoders:
            decoder.detach()
        self._lock, self._decoders = threading.Lock(), []


_local = threading.local()
_idle = _IdleDecoders()
atexit.register(_idle.close)
os.register_at_fork(after_in_child=_idle.forget)


def run_guarded(function: Callable[..., T], path: FilePath, *args: Any, limit: float = LIMIT, **kwargs: Any) -> T:
    """
    Return ``function(path, *args, **kwargs)``, run by the `Decoder` of this thread of this process.

    Parameters and errors are those of `Decoder.call`.
    """
    decoder: Decoder | None = getattr(_local, "decoder", None)
    if decoder is not None and _local.process != os.getpid():
        decoder.detach()
        decoder = None
    if decoder is None:
        decoder = _local.decoder = _idle.take()
        _local.process = os.getpid()
        if hasattr(_local, "used"):
            _local.used.add(decoder)
    return decoder.call(function, path, *args, limit=limit, **kwargs)


class _UsedDecoders:
    """Decoders of the threads of one `parallel_map`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retired = False
        self.decoders: list[Decoder] = []

    def add(self, decoder: Decoder) -> None:
        """Add the decoder of a thread, which is retired at once if the others were."""
        with self._lock:
            self.decoders.append(decoder)
            if self._retired:
                decoder.retire()

    def retire(self) -> None:
        """End all decoding processes; running and later calls raise an error."""
        with self._lock:
            self._retired = True
            for decoder in self.decoders:
                decoder.retire()


def parallel_map(
    function: Callable[[A], T],
    items: Iterable[A],
    threads: int,
    ahead: int,
    on_cancel: Callable[[], None] = lambda: None,
) -> Generator[tuple[A, T]]:
    """
    Yield each item with the result of `function`, in order, computed by threads that each have a decoder.

    The processes of these decoders are kept for later calls, until the program ends. At most `ahead` results per thread
    are computed before they are needed. `on_cancel` is called when the iteration is abandoned, to end calls that are
    running.
    """
    threads = max(1, threads)
    used = _UsedDecoders()
    leave: Callable[[Decoder], None] = Decoder.close

    def initialize() -> None:
        _local.used = used

    try:
        with ThreadPoolExecutor(threads, initializer=initialize) as pool:
            waiting: deque[tuple[A, Future[T]]] = deque()
            try:
                for item in items:
                    waiting.append((item, pool.submit(function, item)))
                    if len(waiting) > ahead * threads:
                        first, future = waiting.popleft()
                        yield first, future.result()
                for first, future in waiting:
                    yield first, future.result()
            except BaseException:  # such as Ctrl-C: do not wait for running calls
                pool.shutdown(wait=False, cancel_futures=True)
                used.retire()
                on_cancel()
                raise
        leave = _idle.put
    finally:
        for decoder in used.decoders:
            leave(decoder)


def serve(read: int, write: int, memory: int) -> None:
    """Run the calls of a `Decoder`, as the main program of its process, until its pipe is closed."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    requests, answers, shared = Connection(read), Connection(write), SharedMemory(memory)
    import_av()
    answers.send(True)
    while True:
        try:
            folder, function, path, args, kwargs, limit = requests.recv()
        except EOFError:
            return
        with suppress(OSError):
            os.chdir(folder)  # relative paths start from the current folder of the program
        signal.setitimer(signal.ITIMER_REAL, limit)  # the kernel ends this process, whatever library it hangs in
        answer = _execute(function, path, args, kwargs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            answers.send(shared.put(answer))
        except BrokenPipeError:
            return


def _folder() -> str:
    """Return the current folder, or the root if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def _execute(function: Callable[..., Any], path: FilePath, args: Any, kwargs: Any) -> tuple[bool, Any]:
    try:
        return True, function(path, *args, **kwargs)
    except SelaviError as error:
        return False, error
    except MemoryError:
        return False, DecoderError(f"{printable(path)}: reading it takes more than {_MEMORY >> 30} GiB of memory")
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return False, RuntimeError(f"reading {os.fspath(path)!r} failed in the decoder:\n{text}")
