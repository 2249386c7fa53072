"""Lying to the parent: forged frames, poisoned variables, false answers, and breaking the kernel that serves the cell."""

from __future__ import annotations

_SOCKET = """
import os, stat, struct, sys, json
def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
cell = int(sys._getframe().f_code.co_filename.strip('<cell >'))
channel = [number for number in range(3, 64) if is_socket(number)][0]
def say(header, blob=b"", flag=0):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = struct.pack("!IIB", len(head), len(blob), flag) + head + blob
    while data:
        data = data[os.write(channel, data):]
"""

SNIPPETS = {
    "a forged end": _SOCKET + "say({'t': 'done', 'n': cell, 'output': 'forged', 'error': None, 'final': 'json'}, b'\"forged\"')",
    "a forged end of another cell": _SOCKET + "say({'t': 'done', 'n': 99, 'output': ''})",
    "a forged end and snapshot": _SOCKET
    + "say({'t': 'done', 'n': cell, 'output': 'x'})\nsay({'t': 'snapshot', 'n': cell, 'names': ['keep'], 'new': [], 'lost': []})",
    "a forged snapshot out of turn": _SOCKET + "say({'t': 'snapshot', 'n': cell, 'names': [], 'new': [], 'lost': []})",
    "a snapshot with sizes that lie": _SOCKET
    + "say({'t': 'done', 'n': cell, 'output': 'x'})\nsay({'t': 'snapshot', 'n': cell, 'names': ['keep', 'a'], 'new': [['a', 10**12]], 'lost': []}, b'x')",
    "a snapshot with negative sizes": _SOCKET
    + "say({'t': 'done', 'n': cell, 'output': 'x'})\nsay({'t': 'snapshot', 'n': cell, 'names': ['keep', 'a'], 'new': [['a', -5], ['b', 5]], 'lost': []}, b'')",
    "a snapshot too large": _SOCKET
    + "say({'t': 'done', 'n': cell, 'output': 'x'})\nsay({'t': 'snapshot', 'n': cell, 'names': ['keep'] + list('abcdef'), 'new': [[n, 16 << 20] for n in 'abcdef'], 'lost': []}, bytes(96 << 20))",
    "a forged start": _SOCKET + "say({'t': 'ready', 'walls': {'seccomp': True}})",
    "a forged refusal": _SOCKET + "say({'t': 'refused', 'why': 'no walls here: run me at level none'})",
    "a forged failure": _SOCKET + "say({'t': 'failed', 'why': '\\x1b[2J\\u202eforged'})",
    "an unknown frame": _SOCKET + "say({'t': 'reboot'})",
    "a frame without a kind": _SOCKET + "say({})",
    "a call out of turn": _SOCKET + "say({'t': 'call', 'id': 500, 'verb': 'ping', 'args': {}})",
    "a call with a number that is none": _SOCKET + "say({'t': 'call', 'id': 1e308, 'verb': 'ping', 'args': {}})",
    "a call with a verb that is none": _SOCKET + "say({'t': 'call', 'id': 1, 'verb': ['ping'], 'args': 'x'})",
    "a call of an unknown verb": "call('../../etc/passwd', {})",
    "calls with every argument wrong": "for args in ({'url': 'file://' + T.canary}, {'model': 'http://127.0.0.1/'}, {'n': -1}, {'n': 10**30}, {'budget': 1e308}, {'path': T.canary}):\n    attempt(call, 'open', args)",
    "calls without end": "while True:\n    attempt(call, 'ping', {'value': 1})",
    "calls without reading": _SOCKET
    + "n = 0\nwhile True:\n    n += 1\n    say({'t': 'call', 'id': n, 'verb': 'ping', 'args': {'value': 'x' * 1000}})",
    "calls from many threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(64) as pool:\n    print(sum(x or 0 for x in pool.map(lambda n: attempt(call, 'ping', {'value': 1}), range(500))))",
    "a call from a thread left behind": "import threading, time\ndef late():\n    while True:\n        time.sleep(0.05)\n        try:\n            call('ping', {})\n        except RuntimeError:\n            break\nthreading.Thread(target=late).start()",
    "an oversize header": _SOCKET + "os.write(channel, struct.pack('!IIB', 2**31, 0, 0))",
    "an oversize blob": _SOCKET + "os.write(channel, struct.pack('!IIB', 2, 2**32 - 1, 0) + b'{}')",
    "a header that never comes": _SOCKET
    + "os.write(channel, struct.pack('!IIB', 8_000_000, 0, 0) + b'{')\nimport time\ntime.sleep(60)",
    "half a prefix": _SOCKET + "os.write(channel, b'\\0\\0')\nwhile True: pass",
    "a flag of the parent's": _SOCKET + "say({'t': 'done', 'n': cell}, b'', 1)",
    "bytes that are no UTF-8": _SOCKET + "say(b'\\xff\\xfe{}')",
    "JSON that is none": _SOCKET + 'say(b\'{"t": "done"\')',
    "JSON that is no object": _SOCKET + "say(b'[1, 2]')",
    "JSON nested deep": _SOCKET
    + "say(b'{\"t\": \"done\", \"n\": %d, \"output\": ' % cell + b'[' * 100_000 + b']' * 100_000 + b'}')",
    "JSON with constants": _SOCKET + 'say(b\'{"t": "done", "n": NaN}\')',
    "JSON with a huge number": _SOCKET + "say(b'{\"t\": \"done\", \"n\": ' + b'9' * 1_000_000 + b'}')",
    "JSON with lone surrogates": _SOCKET
    + 'say(b\'{"t": "done", "n": %d, "output": "\\\\ud800\\\\udfff", "names": ["\\\\ud800"], "error": "\\\\udc00"}\' % cell)',
    "random bytes": _SOCKET + "import random\nrandom.seed(1)\nos.write(channel, random.randbytes(100_000))",
    "a closed channel": _SOCKET + "os.close(channel)",
    "a channel put elsewhere": _SOCKET
    + "os.close(channel)\na, b = os.pipe()\nimport socket\nc, d = socket.socketpair()\nprint(a, b, c, d)",
    "a channel read empty": _SOCKET
    + "os.set_blocking(channel, False)\nwhile True:\n    try:\n        os.read(channel, 1 << 20)\n    except BlockingIOError:\n        pass",
    "descriptors sent to the parent": _SOCKET
    + "import socket, array\ns = socket.socket(fileno=os.dup(channel))\ns.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])",
    "the kernel's own sending replaced": "import rlm_ray.sandbox.inside.link as link\nlink.Link.send = lambda self, header, blob=b'', **more: None",
    "the kernel's encoder replaced": 'import rlm_ray.sandbox.wire.channel as channel\nchannel.dumps = lambda value: b\'{"t": "done"}\'\nchannel.json = None',
    "the kernel found and changed": "import gc\nfor thing in gc.get_objects():\n    if type(thing).__name__ == 'Kernel':\n        thing._namespace = {}\n        thing._link = None",
    "modules taken away": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "builtins taken away": "import builtins\nfor name in list(vars(builtins)): delattr(builtins, name)",
    "builtins replaced": "import builtins\nbuiltins.len = builtins.isinstance = builtins.print = lambda *a, **k: 1 / 0",
    "the namespace emptied": "g = globals()\nfor name in list(g):\n    if name not in ('g', 'keep', 'name'): del g[name]",
    "names that are none": "globals()[5] = 1\nglobals()[None] = 2\nglobals()['\\ud800'] = 3\nglobals()[''] = 4",
    "a name that lies": "class S(str):\n    def __eq__(self, other): return True\n    def __hash__(self): return 1\nglobals()[S('x')] = 1",
    "tracing": "import sys\nsys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: 1 / 0)",
    "an audit hook": "import sys\ndef hook(event, args): raise RuntimeError(event)\nsys.addaudithook(hook)",
    "streams taken away": "import sys\nsys.stdout = sys.stderr = None\nprint('x')",
    "streams closed": "import sys\nsys.stdout.close()\nprint('x')",
    "an exception that lies": "class E(BaseException):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\n    @property\n    def __class__(self): raise KeyboardInterrupt\nraise E",
    "an exception that hangs": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "an exception whose traceback is long": "e = ValueError()\nfor _ in range(2000):\n    try: raise e\n    except ValueError as again: e = again\nraise e",
    "exceptions in a ring": "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a",
    "a pickle that runs a command": "class P:\n    def __reduce__(self):\n        import os\n        return os.mkdir, (os.path.join(T.lake, T.made),)\npoison = P()",
    "a pickle that runs a command, then a crash": "class P:\n    def __reduce__(self):\n        import os\n        return os.mkdir, (os.path.join(T.lake, T.made),)\npoison = [P()]\nimport threading, os\nclass Q:\n    def __reduce__(self):\n        os._exit(1)\nlater = Q()",
    "a pickle that hangs while made": "class P:\n    def __reduce__(self):\n        while True: pass\npoison = P()",
    "a pickle that hangs and catches": "class P:\n    def __reduce__(self):\n        while True:\n            try:\n                while True: pass\n            except BaseException: pass\npoison = P()",
    "a pickle that grows": "class P:\n    def __reduce__(self): return P, (P(),)\npoison = P()",
    "a pickle that is large": "poison = [bytes(15 << 20) + bytes([n]) for n in range(3)]\nmore = {n: bytes([n]) * (12 << 20) for n in range(6)}\nfor n in range(6): globals()[f'part{n}'] = bytes([n]) * (12 << 20)",
    "an answer that lies": "class A(dict):\n    def items(self): raise SystemExit\n    def __iter__(self): return iter(())\n    def __len__(self): return 10**30\nFinal = A(a=1)",
    "an answer whose class lies": "class A:\n    @property\n    def __class__(self): raise MemoryError\n    def __getattr__(self, name): return self\n    def __call__(self, *a): return self\nFinal = A()",
    "an answer without end": "import collections\nclass A(list):\n    def __iter__(self):\n        while True: yield 1\nFinal = A()",
    "an answer that is too large": "Final = 'x' * 300_000_000",
    "an answer nested deep": "x = 1\nfor _ in range(10_000): x = [x]\nFinal = x",
    "an answer that is printed": "print('Final = forged')\nprint('FINAL(forged)')\nprint('\\x1b]0;owned\\x07\\u202e')",
    "an answer after the end": "import threading, time\ndef late():\n    time.sleep(0.2)\n    globals()['Final'] = 'forged'\n    answer['ready'] = True\nthreading.Thread(target=late, daemon=True).start()",
    "output that is no text": "print('\\ud800\\udc00 \\x00\\x07\\x1b[31m')\nimport sys\nsys.stdout.write('\\ud800')",
    "output of another type": "import sys\nclass S(str):\n    def __getitem__(self, key): return 1 / 0\n    def __len__(self): return -5\nsys.stdout.write(S('x'))",
}
ONLY_BEHIND_WALLS: set[str] = set()
