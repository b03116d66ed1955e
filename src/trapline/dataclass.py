"""Dataclasses whose methods are made when they are first needed.

A start makes seventy classes that do nothing but hold values, and uses a third of them; the standard library compiles
up to six functions for each at once (0.8 ms), and imports inspect. To type checkers these are its own `dataclass` and
`field`, and to its other functions (asdict, is_dataclass, match) a class made here is a dataclass. What no class
needs is left out: InitVar, KW_ONLY as a field, descriptors as defaults, a dataclass of the standard library as base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass", "field", "fields", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, fields, replace
else:
    import operator
    import sys

    class _Missing:
        def __repr__(self):
            return "<factory>"  # in a signature

    _MISSING = _Missing()
    _RECORD = "__trapline_fields__"
    _PLAIN_OBJECTS = 6  # of a class, before its __init__ is compiled: half of the classes of a start have no more

    class _Field:
        __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "name", "repr", "type")

        def __init__(self, default, default_factory, init, repr, compare, kw_only):
            self.default, self.default_factory = default, default_factory
            self.init, self.repr, self.compare, self.kw_only = init, repr, compare, kw_only

        @property
        def optional(self):
            return self.default is not _MISSING or self.default_factory is not _MISSING

    def field(
        *, default=_MISSING, default_factory=_MISSING, init=True, repr=True, compare=True, kw_only=None
    ):  # fmt: skip
        """As dataclasses.field."""
        return _Field(default, default_factory, init, repr, compare, kw_only)

    def fields(of):
        """As dataclasses.fields."""
        return tuple(getattr(of, _RECORD).values())

    def replace(of, /, **changes):
        """As dataclasses.replace."""
        kept = {f.name: getattr(of, f.name) for f in fields(of) if f.init and f.name not in changes}
        return type(of)(**kept, **changes)

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True, repr=True, kw_only=False, order=False):
        """As dataclasses.dataclass."""

        def made(cls):
            return _made(cls, frozen, slots, eq, repr, kw_only, order)

        return made if cls is None else made(cls)

    def _made(cls, frozen, slots, eq, shown, kw_only, order):
        known = {}
        for base in cls.__mro__[:0:-1]:
            if "__dataclass_fields__" in vars(base) and _RECORD not in vars(base):
                raise TypeError(f"{cls.__qualname__}: {base.__qualname__} is a dataclass of the standard library")
            known |= vars(base).get(_RECORD, {})
        for name, kind in cls.__annotations__.items():
            if not str(kind).startswith(("ClassVar", "typing.ClassVar")):
                known[name] = _own_field(cls, name, kind, kw_only)
        if slots:
            cls = _with_slots(cls, known)
        own = vars(cls)
        setattr(cls, _RECORD, known)
        cls.__dataclass_fields__ = _Fields()
        cls.__match_args__ = tuple(f.name for f in known.values() if f.init and not f.kw_only)
        if "__init__" not in own:
            cls.__init__ = _later(cls, frozen)
        compared = tuple(f.name for f in known.values() if f.compare)
        if shown and "__repr__" not in own:
            cls.__repr__ = _repr
        if eq:
            _comparable(cls, compared, frozen, order)
        if frozen:
            cls.__setattr__, cls.__delattr__ = _frozen(cls)
            if slots:
                cls.__getstate__, cls.__setstate__ = _state, _set_state
        return cls

    def _own_field(cls, name, kind, kw_only):
        default = vars(cls).get(name, _MISSING)
        if isinstance(default, _Field):
            found = default
            if found.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, found.default)
        else:
            if isinstance(default, (list, dict, set)):
                raise ValueError(f"{name}: a mutable default needs default_factory")
            found = _Field(default, _MISSING, True, True, True, None)
        found.name, found.type = name, kind
        found.kw_only = kw_only if found.kw_only is None else found.kw_only
        return found

    def _with_slots(cls, known):
        """A class cannot get slots later: make it again, as the standard library does."""
        space = {n: v for n, v in vars(cls).items() if n not in known and n not in ("__dict__", "__weakref__")}
        inherited = {slot for base in cls.__mro__[1:] for slot in vars(base).get("__slots__", ())}
        space["__slots__"] = tuple(name for name in known if name not in inherited)
        made = type(cls)(cls.__name__, cls.__bases__, space)
        made.__qualname__ = cls.__qualname__
        return made

    def _later(cls, frozen):
        left = _PLAIN_OBJECTS

        def __init__(self, *args, **kwargs):  # noqa: N807
            nonlocal left
            left -= 1
            if left < 0 or (values := _values(vars(cls)[_RECORD].values(), args, kwargs)) is None:
                complete(cls, frozen)
                return cls.__init__(self, *args, **kwargs)
            for name, value in values:
                object.__setattr__(self, name, value)
            if hasattr(cls, "__post_init__"):
                self.__post_init__()
            return None

        __init__.complete = lambda: complete(cls, frozen)
        return __init__

    def _values(known, args, kwargs):
        """The values of the first objects of a class, for which no code is compiled; None: the arguments are wrong."""
        found, at, used = [], 0, 0
        for f in known:
            if f.init and not f.kw_only and at < len(args):
                value, at = args[at], at + 1
                if f.name in kwargs:
                    return None
            elif f.init and f.name in kwargs:
                value, used = kwargs[f.name], used + 1
            elif f.default_factory is not _MISSING:
                value = f.default_factory()
            elif f.default is not _MISSING:
                value = f.default
            elif f.init:
                return None
            else:
                continue
            found.append((f.name, value))
        return found if at == len(args) and used == len(kwargs) else None

    def complete(cls, frozen):
        """Compile what makes an object."""
        known = vars(cls)[_RECORD].values()
        space = {"_missing": _MISSING, "_set": object.__setattr__}
        words, lines, named = ["self"], [], []
        for f in (f for f in known if f.init or f.optional):
            name, value = f.name, f.name if f.init else f"_default_{f.name}"
            space[f"_default_{name}"] = f.default
            if f.default_factory is not _MISSING:
                space[f"_made_{name}"] = f.default_factory
                value = f"_made_{name}() if {name} is _missing else {name}" if f.init else f"_made_{name}()"
            if f.init:
                word = f"{name}=_default_{name}" if f.optional else name
                (named if f.kw_only else words).append(word)
            lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        lines += ["self.__post_init__()"] if hasattr(cls, "__post_init__") else []
        head = ", ".join([*words, *(["*", *named] if named else [])])
        body = "\n  ".join(lines or ["pass"])
        made = {}
        text = f"def make({', '.join(space)}):\n def __init__({head}):\n  {body}\n return __init__"
        exec(text, vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}, made)
        made = made["make"](**space)
        made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
        made.__annotations__ = {f.name: f.type for f in known if f.init} | {"return": None}
        cls.__init__ = made

    class _Fields:
        """`__dataclass_fields__`, for those who ask for it: the standard library's, of a class with the same fields."""

        def __get__(self, of, cls):
            import dataclasses

            def told(f):
                given = {n: v for n in ("default", "default_factory") if (v := getattr(f, n)) is not _MISSING}
                given |= {n: getattr(f, n) for n in ("init", "repr", "compare", "kw_only")}
                return f.name, f.type, dataclasses.field(**given)

            same = dataclasses.make_dataclass(cls.__name__, map(told, fields(cls)), kw_only=True)
            cls.__dataclass_fields__ = found = same.__dataclass_fields__
            return found

    def _repr(self):
        shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
        return f"{type(self).__qualname__}({shown})"

    def _comparable(cls, compared, frozen, order):
        few = len(compared) < 2  # then attrgetter gives no tuple
        one = (lambda of: tuple([getattr(of, name) for name in compared])) if few else operator.attrgetter(*compared)

        def __eq__(self, other):  # noqa: N807
            return one(self) == one(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):  # noqa: N807
            return hash(one(self))

        own = vars(cls)
        hashed = own.get("__hash__") is not None or ("__hash__" in own and "__eq__" not in own)
        if "__eq__" not in own:
            cls.__eq__ = __eq__
        if not hashed:
            cls.__hash__ = __hash__ if frozen else None
        for by in (operator.lt, operator.le, operator.gt, operator.ge) if order else ():
            setattr(cls, f"__{by.__name__}__", _ordered(one, by))

    def _ordered(one, by):
        return lambda self, other: by(one(self), one(other)) if other.__class__ is self.__class__ else NotImplemented

    def _frozen(cls):
        def __setattr__(self, name, value):  # noqa: N807
            if type(self) is cls or name in vars(cls)[_RECORD]:
                raise _frozen_error(f"cannot assign to field {name!r}")
            super(cls, self).__setattr__(name, value)

        def __delattr__(self, name):  # noqa: N807
            if type(self) is cls or name in vars(cls)[_RECORD]:
                raise _frozen_error(f"cannot delete field {name!r}")
            super(cls, self).__delattr__(name)

        return __setattr__, __delattr__

    def _frozen_error(text):
        from dataclasses import FrozenInstanceError

        return FrozenInstanceError(text)

    def _state(self):
        return [getattr(self, f.name) for f in fields(self)]

    def _set_state(self, values):
        for f, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, f.name, value)
