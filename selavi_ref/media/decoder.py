"""Decoding in a process of its own: one that crashes or hangs is replaced, and the file is to blame, not the run."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

from selavi_ref.errors import FilePath, SelaviError, TransientMediaError, printable
from selavi_ref.media.container import import_av

A = TypeVar("A")
T = TypeVar("T")

LIMIT = 60.0  # seconds that one call may take
_STARTING = 120.0  # seconds that a process may take to start, such as from a slow disk
_GRACE = 5.0  # seconds after the limit at which a process that the kernel did not end by itself is killed
_MEMORY = 8 << 30  # bytes of address space: a damaged header may ask for more memory than the machine has
_START = "import sys; sys.path[:] = {path!r}; from selavi_ref.media.decoder import serve; serve(*{files!r})"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class DecoderError(TransientMediaError):
    """The decoder crashed on a file, took too long, or needed too much memory: another time it might not."""


class Decoder:
    """
    Carries out calls on media files in a process of its own, one after the other.

    The process holds neither PyTorch nor Numba, works in one thread, and is started with the first call. It is started
    anew after a call in which it crashed or which took too long; that call raises `DecoderError`. Where processes are
    forked or threads share an object, each needs a decoder of its own: see `run_guarded`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Connection | None = None
        self._answers: Connection | None = None
        self._shared: SharedMemory | None = None

    def call(self, function: Callable[..., T], path: FilePath, *args: Any, limit: float = LIMIT, **kwargs: Any) -> T:
        """
        Return ``function(path, *args, **kwargs)``.

        Parameters
        ----------
        function
            Importable by its name; its arguments and result can be pickled.
        path
            The file that is to blame.
        limit
            Seconds after which the call is ended by force.

        Raises
        ------
        DecoderError
            If the process crashed, took longer than `limit`, or needed more memory than it may take.
        Exception
            What `function` raises.
        """
        requests, answers, shared = self._connections()
        try:
            requests.send((_folder(), function, path, args, kwargs, limit))
            answer = answers.recv() if answers.poll(limit + _GRACE) else None
        except (EOFError, OSError):
            answer = None
        except BaseException:  # such as Ctrl-C: what the process answers later must not be taken for the next answer
            self.close()
            raise
        if answer is None:
            raise DecoderError(f"{printable(path)}: {self._autopsy(limit)}")
        done, result = shared.take(*answer)
        if not done:
            raise result
        value: T = result
        return value

    def close(self) -> None:
        """End the process, if there is one."""
        process = self._process
        self.forget()
        if process is not None:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process from another thread; the call that it is busy with raises `DecoderError`."""
        process = self._process
        if process is not None:
            process.kill()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def forget(self) -> None:
        """Let go of a process that belongs to the process that this one was forked from."""
        for end in (self._requests, self._answers, self._shared):
            if end is not None:
                end.close()
        self._process = self._requests = self._answers = self._shared = None

    def _connections(self) -> tuple[Connection, Connection, SharedMemory]:
        if self._requests is None or self._answers is None or self._shared is None:
            their_requests, self._requests = Pipe(duplex=False)
            self._answers, their_answers = Pipe(duplex=False)
            self._shared = SharedMemory()
            handed = (their_requests.fileno(), their_answers.fileno(), self._shared.file)
            try:
                self._process = _started(handed)
            except OSError as error:
                self.forget()
                raise SelaviError(f"the process that decodes videos could not be started: {error.strerror}") from error
            their_requests.close()
            their_answers.close()
            self._await_start()
        return self._requests, self._answers, self._shared

    def _await_start(self) -> None:
        """Wait until the process has loaded what it needs, which does not count as time of the first call."""
        assert self._answers is not None
        try:
            ready = self._answers.poll(_STARTING) and self._answers.recv()
        except (EOFError, OSError):
            ready = False
        except BaseException:
            self.close()
            raise
        if not ready:
            self.close()
            raise SelaviError(f"the process that decodes videos could not be started ({sys.executable})")

    def _autopsy(self, limit: float) -> str:
        """End the process, and tell why it gave no answer."""
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


def _started(files: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start the process of a decoder, which inherits these descriptors."""
    return subprocess.Popen(
        [sys.executable, "-c", _START.format(path=sys.path, files=files)],
        pass_fds=files,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what C libraries say before they crash
        env={**os.environ, **_ONE_THREAD},
        start_new_session=True,  # Ctrl-C is for the program, which then closes its decoders
    )


class SharedMemory:
    """
    Hands objects with large arrays from one process to another: the arrays are copied once in and once out.

    Parameters
    ----------
    file
        Descriptor of the file that both processes map; a new one, without a name, by default.
    """

    def __init__(self, file: int | None = None) -> None:
        if file is None:
            memory = hasattr(os, "memfd_create")
            file = os.memfd_create("selavi") if memory else os.dup(tempfile.TemporaryFile().fileno())  # noqa: SIM115
        self.file = file
        self._map: mmap.mmap | None = None

    def put(self, value: object) -> tuple[bytes, list[int]]:
        """Copy the arrays of an object in, and return what `take` needs to make it again."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        sizes = [array.nbytes for array in arrays]
        if needed := sum(sizes):
            if needed > os.fstat(self.file).st_size:
                os.ftruncate(self.file, needed)
            place, target = 0, self._mapped(needed)
            for array in arrays:
                target[place : (place := place + array.nbytes)] = array
        return data, sizes

    def take(self, data: bytes, sizes: list[int]) -> Any:
        """Return the object that `put` was given in the other process; its arrays are copies."""
        buffers = []
        if sum(sizes):
            place, source = 0, memoryview(self._mapped(sum(sizes)))
            for size in sizes:
                buffers.append(bytearray(source[place : (place := place + size)]))
            source.release()
        else:
            buffers = [bytearray() for _ in sizes]
        return pickle.loads(data, buffers=buffers)

    def close(self) -> None:
        """Let go of the memory."""
        if self._map is not None:
            self._map.close()
        os.close(self.file)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self.file, 0)
        return self._map


_local = threading.local()


def run_guarded(function: Callable[..., T], path: FilePath, *args: Any, limit: float = LIMIT, **kwargs: Any) -> T:
    """
    Return ``function(path, *args, **kwargs)``, carried out by the `Decoder` that this thread of this process keeps.

    Parameters and errors are those of `Decoder.call`.
    """
    decoder: Decoder | None = getattr(_local, "decoder", None)
    if decoder is not None and _local.process != os.getpid():
        decoder.forget()
        decoder = None
    if decoder is None:
        decoder = _local.decoder = Decoder()
        _local.process = os.getpid()
    return decoder.call(function, path, *args, limit=limit, **kwargs)


def parallel_map(function: Callable[[A], T], given: Iterable[A], threads: int, ahead: int) -> Iterator[tuple[A, T]]:
    """
    Yield each item with what `function` makes of it, in their order, made by threads that each keep a decoder.

    At most `ahead` results per thread wait for their turn, however many items there are.
    """
    threads = max(1, threads)
    decoders: list[Decoder] = []

    def begin() -> None:
        _local.decoder, _local.process = Decoder(), os.getpid()
        decoders.append(_local.decoder)

    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        waiting: deque[tuple[A, Future[T]]] = deque()
        try:
            for item in given:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > ahead * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        except BaseException:  # such as Ctrl-C: nobody waits for what is under way
            pool.shutdown(wait=False, cancel_futures=True)
            for decoder in decoders:
                decoder.kill()
            raise


def serve(read: int, write: int, memory: int) -> None:
    """Carry out the calls of a `Decoder`, as the main program of its process, until it goes away."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
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
            os.chdir(folder)  # a relative path starts from where the program is now
        signal.setitimer(signal.ITIMER_REAL, limit)  # the kernel ends this process, whatever library it hangs in
        answer = _carry_out(function, path, args, kwargs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            answers.send(shared.put(answer))
        except BrokenPipeError:
            return


def _folder() -> str:
    """Return the current folder, which may have been removed."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def _carry_out(function: Callable[..., Any], path: FilePath, args: Any, kwargs: Any) -> tuple[bool, Any]:
    try:
        return True, function(path, *args, **kwargs)
    except SelaviError as error:
        return False, error
    except MemoryError:
        return False, DecoderError(f"{printable(path)}: reading it takes more than {_MEMORY >> 30} GiB of memory")
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return False, RuntimeError(f"reading {os.fspath(path)!r} failed in the decoder:\n{text}")
