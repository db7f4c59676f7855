"""Mutable, native-looking Python objects in a heap file, shared by many processes and changed by transactions.

    import shobj

    store = shobj.open_store("bank")
    store.root["accounts"] = {"alice": 10, "bob": 5}

    @store.atomic
    def transfer(a, b, n):
        accounts = store.root["accounts"]
        accounts[a] -= n
        accounts[b] += n

    @store.atomic
    def wait_until_rich(a):
        if store.root["accounts"][a] < 1000:
            shobj.retry()           # sleeps until something read here changes

Everything is in the extension module; see open_store(), Store, Dict and List.
"""

# Not collections.abc: that would import all of collections, and this module is loaded in any case.
from _collections_abc import ItemsView, KeysView, MutableMapping, MutableSequence, ValuesView

from shobj._shobj import (
    Attempts,
    ConflictError,
    CorruptedError,
    Dict,
    DictItems,
    DictKeys,
    DictValues,
    Error,
    List,
    NotShareableError,
    ReadOnlyError,
    Retry,
    StaleObjectError,
    Store,
    StoreClosedError,
    StoreExistsError,
    StoreFullError,
    StoreNotFoundError,
    Transaction,
    TransactionError,
    TransactionTimeout,
    VersionMismatchError,
    __version__,
    list_stores,
    on_abort,
    on_commit,
    open_store,
    retry,
    to_native,
    unlink,
)

__all__ = [
    "Attempts",
    "ConflictError",
    "CorruptedError",
    "Dict",
    "DictItems",
    "DictKeys",
    "DictValues",
    "Error",
    "List",
    "NotShareableError",
    "ReadOnlyError",
    "Retry",
    "StaleObjectError",
    "Store",
    "StoreClosedError",
    "StoreExistsError",
    "StoreFullError",
    "StoreNotFoundError",
    "Transaction",
    "TransactionError",
    "TransactionTimeout",
    "VersionMismatchError",
    "__version__",
    "list_stores",
    "on_abort",
    "on_commit",
    "open_store",
    "retry",
    "to_native",
    "unlink",
]

MutableMapping.register(Dict)
MutableSequence.register(List)
KeysView.register(DictKeys)
ValuesView.register(DictValues)
ItemsView.register(DictItems)
del ItemsView, KeysView, MutableMapping, MutableSequence, ValuesView
