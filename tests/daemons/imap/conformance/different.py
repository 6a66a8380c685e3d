"""Where we answer otherwise than Apache James' scripts expect, and why: script, reason, the lines of its exchanges."""

_STATE = "in a wrong state BAD or NO is the server's choice, RFC 3501 §3"
_UNKNOWN = "what is not a command gets BAD, and the connection goes on, RFC 3501 §7.1.3"
_ONLY_L = r"with l and without r it cannot be selected, which LIST tells with \Noselect, RFC 3501 §7.2.2"
_OTHER_OWNER = (
    "a mailbox belongs to its owner's quota and keys: RENAME to another owner's name is refused, RFC 3501 §6.3.5"
)
_READ_ONLY = "EXAMINE permits no change that lasts, so PERMANENTFLAGS is empty, RFC 3501 §6.3.2"
_BODY = "markup is not text, and the header of an embedded message is text of its body, RFC 3501 §6.4.4"
_NO_ATTRIBUTES = "FETCH needs an attribute in its parentheses, RFC 3501 §9 (fetch)"
_SEEN = r"James keeps \Seen without the right s, and says there that this is not by RFC 4314 §4"
_OWNERS_RIGHTS = (
    "owners cannot lose rights here, RFC 4314 §3.7 (they are required), so there is no own mailbox with lkxca"
)
_SET_FLAGS = "STORE without .SILENT tells the flags, also those that could not be changed, RFC 3501 §6.4.6"
_SUPERIORS = "RENAME makes the superiors of the new name, RFC 3501 §6.3.5"
_NAMESPACES = "our namespaces and delimiter, RFC 2342 §5"

DIFFERENT: dict[str, dict[str, tuple[int, ...]]] = {
    "ACLCommandsOnOwner": {
        "LISTRIGHTS: which rights are required or tied is the server's choice, RFC 4314 §3.7": (60, 64, 71),
    },
    "ACLIntegrationCopyWithoutS": {_SEEN: (63,)},
    "ACLIntegrationRightI": {_SEEN: (104,)},
    "ACLIntegrationRightIT": {_SEEN: (108,)},
    "ACLIntegrationRightIW": {_SEEN: (108,)},
    "ACLIntegrationRightK": {_OWNERS_RIGHTS: (28,), _OTHER_OWNER: (34,)},
    "ACLIntegrationRightX": {_OTHER_OWNER: (30,)},
    "ACLIntegrationWithoutRightA": {"LISTRIGHTS needs the right a, RFC 4314 §4": (37,)},
    "ACLIntegrationWithoutRightK": {_OWNERS_RIGHTS: (24,)},
    "ACLIntegrationWithoutRightL": {
        "any name can be subscribed, so the answer does not tell which exist, RFC 3501 §6.3.6, RFC 4314 §6": (34,),
    },
    "ACLIntegrationWithoutRightS": {_SET_FLAGS: (57,)},
    "ACLIntegrationWithoutRightW": {_SET_FLAGS: (57,)},
    "AppendExamineInbox": {
        _READ_ONLY: (46, 59),
        "the messages leave INBOX, which is told where it is selected, RFC 3501 §6.3.5, §7.4.1": (72,),
    },
    "Authenticate": {"an initial response must be base64, RFC 4959 §3": (26,)},
    "BadTag": {_UNKNOWN: (23,)},
    "BogusCommand": {_UNKNOWN: (23,)},
    "ConcurrentExpungeUIDToMSNMapping": {
        "a change made elsewhere is told with its UID, which any FETCH response may hold, RFC 9051 §7.5.2": (152,),
    },
    "CondstoreDisable": {"James is set up without CONDSTORE there": (24,)},
    "Create": {
        "a name with an empty level is well-formed and cannot be: NO [CANNOT], RFC 5530 §3": (35,),
        '"." is no delimiter here, and "&AC4-" is not modified UTF-7 of it, RFC 3501 §5.1.3': (71, 100, 102),
    },
    "ExamineReadOnly": {_READ_ONLY: (67,)},
    "FetchAllEmptyMailbox": {'"*" of an empty mailbox is a number that is not there: BAD, RFC 9051 §9 (seq-number)': (35,)},
    "FetchNILSaveDate": {"every mailbox keeps save dates, RFC 8514 §4.3": (42,)},
    "FetchSimpleBodyStructure": {_NO_ATTRIBUTES: (92,)},
    "FetchStructureComplex": {_NO_ATTRIBUTES: (781,)},
    "Id": {"we tell our name, RFC 2971 §3.3": (20, 24, 28, 32)},
    "JustTag": {_UNKNOWN: (23,)},
    "ListWithSharedMailbox": {
        '"%" lists the level above the mailboxes of others, RFC 3501 §6.3.8': (88,),
        "reference and name are put together as they are: there is no delimiter between, RFC 3501 §6.3.8": (95, 180),
        "RETURN stands after a space, RFC 5258 §6": (194, 207),
    },
    "LoginThreeStrikes": {"failures delay, and do not end the connection, RFC 3501 §6.2.3": (29,)},
    "Metadata": {
        "GETMETADATA names entries, RFC 5464 §5": (87, 101, 105, 173, 181, 187),
        "options stand in one list, RFC 5464 §5": (116,),
        "MAXSIZE is a number, and 0 is one, RFC 5464 §5": (146,),
        "what is stored below /private/vendor is for vendors to tell, and refusing it helps nobody, RFC 5464 §3.2": (154, 157),
    },
    "MetadataWithLimitation": {"James' limits, set for this script; ours are others, RFC 5464 §4.3": (25, 41)},
    "MoveNoMSG": {"a UID that is not there is ignored without an error, RFC 3501 §6.4.8": (38,)},
    "Namespace": {_NAMESPACES: (19,)},
    "NoTag": {"an empty line is ignored": (23,)},
    "Quota": {
        "the quota is set by the program around the script, and roots have James' names, RFC 9208 §3.2": (
            71, 77, 103, 109, 119, 132,
        ),
        "SETQUOTA has one list, RFC 9208 §7": (116,),
    },
    "RenameHierarchy": {_SUPERIORS: (37, 47, 57, 67, 77, 87, 89)},
    "RenameSharedMailbox": {_OTHER_OWNER: (67, 71), _SUPERIORS: (92,)},
    "Replace": {"EXPUNGE of the old may come before EXISTS of the new, RFC 8508 §3.3": (59, 86)},
    "SearchAtoms": {_BODY: (1609, 1615)},
    "SearchCombinations": {_BODY: (1604, 1607)},
    "SearchOptionSave": {"SAVE alone gets no response, RFC 5182 §2.1": (51,)},
    "SharedMailbox": {"#any is a name like others, there is no such namespace": (34, 37)},
    "SharingAccessL": {_ONLY_L: (21,)},
    "SharingAccessLR": {_ONLY_L: (21,)},
    "SharingAccessLRK": {_ONLY_L: (21,)},
    "SharingAccessLRS": {_ONLY_L: (21,)},
    "SharingAccessLRT": {_ONLY_L: (21,)},
    "SharingAccessLRTE": {_ONLY_L: (21,)},
    "UidSearchAtoms": {_BODY: (1970, 1976)},
    "ValidAuthenticated": {_STATE: (21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41)},
    "ValidSelected": {_STATE: (20, 22, 24, 26, 28, 30, 32, 34)},
    "ValidateDeployment": {_NAMESPACES: (115,), "which mailboxes an account begins with": (240, 256)},
}  # fmt: skip
