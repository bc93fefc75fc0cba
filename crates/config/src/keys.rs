//! The keys of `cluster.toml`: one table that the parser reads by and the documentation is made
//! from, so that neither can know a key that the other does not.

use model::spec::{
    AFTER_MAX, COMMAND_WORDS_MAX, ENVIRONMENT_MAX, HEALTH_MAX, HOOKS_MAX, LINKS_MAX, NODES_MAX,
    RESOURCES_MAX, TIME_MAX_MS,
};

/// A table of `cluster.toml`.
#[derive(Debug)]
pub struct Table {
    /// How it is written, such as `[[node]]`.
    pub heading: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

impl Table {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What may stand there.
    pub value: Value,
    /// What holds where it is absent; `required` where it can't be.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// What may stand behind a key.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from `min` to `max`.
    Whole {
        /// What it counts.
        unit: &'static str,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A list of texts.
    Texts {
        /// Most entries.
        max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a table.
    ChoiceOr(&'static [&'static str], &'static Table),
    /// A table with keys of its own.
    Table(&'static Table),
    /// A list of tables.
    Tables {
        /// The table.
        table: &'static Table,
        /// Most entries.
        max: usize,
    },
    /// Names and texts of the operator's own.
    Map {
        /// Most entries.
        max: usize,
    },
}

const fn ms(min: u64) -> Value {
    Value::Whole { unit: "ms", min, max: TIME_MAX_MS }
}

const fn bytes(min: u64) -> Value {
    Value::Whole { unit: "bytes", min, max: i64::MAX as u64 }
}

const fn count(unit: &'static str, min: u64, max: u64) -> Value {
    Value::Whole { unit, min, max }
}

const fn key(
    name: &'static str,
    value: Value,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, value, default, meaning }
}

const COMMAND: Value = Value::Texts { max: COMMAND_WORDS_MAX };

/// What `kind` may say: those this version runs.
pub const KINDS: &[&str] = &["process", "address"];
/// Kinds that are planned: named so that the error can say so.
pub const KINDS_LATER: &[&str] =
    &["ocf", "systemd", "container", "vm", "postgres", "group", "filesystem"];

/// The whole file.
pub static FILE: Table = Table {
    heading: "cluster.toml",
    about: "The whole file.",
    keys: &[
        key("cluster", Value::Table(&CLUSTER), "required", "The cluster as a whole."),
        key(
            "node",
            Value::Tables { table: &NODE, max: NODES_MAX },
            "required",
            "The machines, one table each.",
        ),
        key(
            "resource",
            Value::Tables { table: &RESOURCE, max: RESOURCES_MAX },
            "none",
            "What is kept available, one table each.",
        ),
        key(
            "hook",
            Value::Tables { table: &HOOK, max: HOOKS_MAX },
            "none",
            "Who is told about what happens, one table each.",
        ),
    ],
};

/// A snippet of an included directory.
pub static SNIPPET: Table = Table {
    heading: "snippet",
    about: "A file of the included directory.",
    keys: &[
        key("node", Value::Tables { table: &NODE, max: NODES_MAX }, "none", "More nodes."),
        key(
            "resource",
            Value::Tables { table: &RESOURCE, max: RESOURCES_MAX },
            "none",
            "More resources.",
        ),
        key("hook", Value::Tables { table: &HOOK, max: HOOKS_MAX }, "none", "More hooks."),
    ],
};

/// `[cluster]`.
pub static CLUSTER: Table = Table {
    heading: "[cluster]",
    about: "The cluster as a whole.",
    keys: &[
        key(
            "name",
            Value::Text,
            "required",
            "The cluster's name. Nodes of another cluster are refused by it, so it can't change.",
        ),
        key(
            "profile",
            Value::Choice(&["fast", "lan", "cloud", "wan"]),
            "`cloud`, with a warning",
            "The timing profile. All timers follow from it; `backstay check` prints them. \
             `backstay init` measures the machines and names the profile that fits.",
        ),
        key(
            "include",
            Value::Text,
            "none",
            "A directory of snippets, relative to this file. Its `*.toml` files are read in the \
             order of their names; each may hold `[[node]]`, `[[resource]]` and `[[hook]]`.",
        ),
        key("ports", Value::Table(&PORTS), "7400, 7401, 7402", "The ports of every node."),
    ],
};

/// `[cluster.ports]` and `ports` of a node.
pub static PORTS: Table = Table {
    heading: "ports",
    about: "The ports of every node (`[cluster.ports]`) or of one (`ports` in `[[node]]`). What \
            a node does not say is the cluster's.",
    keys: &[
        key("peer", count("port", 1, 65_535), "7400", "TCP, from node to node, TLS."),
        key("heartbeat", count("port", 1, 65_535), "7401", "UDP, from node to node, sealed."),
        key("api", count("port", 1, 65_535), "7402", "TCP, the HTTPS API."),
    ],
};

/// `[[node]]`.
pub static NODE: Table = Table {
    heading: "[[node]]",
    about: "One machine.",
    keys: &[
        key("name", Value::Text, "required", "Its name, one of its own in the cluster."),
        key(
            "links",
            Value::Texts { max: LINKS_MAX },
            "required",
            "Its IP addresses, one for each network path, in the same order on every node. \
             Heartbeats use all of them all the time.",
        ),
        key(
            "ports",
            Value::Table(&PORTS),
            "the cluster's",
            "Ports that differ from the cluster's.",
        ),
        key("site", Value::Text, "unknown", "Failure domain: the data centre."),
        key("rack", Value::Text, "unknown", "Failure domain: the rack."),
        key("power", Value::Text, "unknown", "Failure domain: the power feed."),
        key("witness", Value::Flag, "`false`", "It votes and runs nothing."),
        key(
            "voter",
            Value::Flag,
            "see below",
            "It votes. Where no node says `true`, every node that does not say `false` votes (at \
             most 7 that way); where one does, only those that say `true`, and the witnesses.",
        ),
    ],
};

/// `[[resource]]`.
pub static RESOURCE: Table = Table {
    heading: "[[resource]]",
    about: "One thing that is kept available. `address` and `interface` are keys of \
            `kind = \"address\"`, those from `command` on of `kind = \"process\"`.",
    keys: &[
        key("name", Value::Text, "required", "Its name, one of its own in the cluster."),
        key("kind", Value::Choice(KINDS), "required", "What it is."),
        key(
            "mode",
            Value::Choice(&["active-passive"]),
            "`active-passive`",
            "How many instances are active: one.",
        ),
        key(
            "standby",
            Value::Choice(&["cold", "hot"]),
            "`cold`, for an address `hot`",
            "Whether copies wait on other nodes: `hot` ones run unpromoted and ready, a `cold` \
             one is started when needed.",
        ),
        key(
            "prefer",
            Value::Texts { max: NODES_MAX },
            "none",
            "Nodes, best first. Others are used where none of these can.",
        ),
        key("nodes", Value::Texts { max: NODES_MAX }, "all", "The only nodes it may run on."),
        key(
            "spread",
            Value::Choice(&["site", "rack", "power"]),
            "none",
            "Active and standby are kept in different failure domains of this kind where possible.",
        ),
        key(
            "with",
            Value::Text,
            "none",
            "It runs on the node where that resource is active, and starts after it.",
        ),
        key(
            "after",
            Value::Texts { max: AFTER_MAX },
            "none",
            "It starts once these are active, wherever they are.",
        ),
        key(
            "health",
            Value::Tables { table: &HEALTH, max: HEALTH_MAX },
            "none",
            "Health checks; all must pass.",
        ),
        key(
            "rto_ms",
            ms(1),
            "none",
            "Recovery-time target: how long it may be away after any one failure. A \
             configuration whose timers can't meet it is refused with the sum shown.",
        ),
        key("rpo_bytes", bytes(0), "none", "Recovery-point target: how much may be lost."),
        key("recovery", Value::Table(&RECOVERY), "see below", "What failures lead to."),
        key(
            "failback",
            Value::ChoiceOr(&["manual"], &FAILBACK),
            "`manual`",
            "What happens when a preferred node comes back: nothing until an operator asks, or a \
             return after a time of health.",
        ),
        key(
            "address",
            Value::Text,
            "required",
            "The IP address that moves, with the prefix of its network: `10.1.0.100/24`.",
        ),
        key(
            "interface",
            Value::Text,
            "see meaning",
            "The network interface that gets it; where none is named, the one that has an \
             address in the same network.",
        ),
        key(
            "command",
            COMMAND,
            "required",
            "Program and arguments. The program is an absolute path; no shell is involved.",
        ),
        key("user", Value::Text, "the launcher's", "The user it runs as, by name or number."),
        key("group", Value::Text, "the user's", "The group it runs as, by name or number."),
        key(
            "environment",
            Value::Map { max: ENVIRONMENT_MAX },
            "none",
            "Environment variables, on top of `PATH`, `LANG` and those that Backstay sets.",
        ),
        key("directory", Value::Text, "`/`", "Its working directory, an absolute path."),
        key("limits", Value::Table(&LIMITS), "none", "What it may use at most."),
        key("log", Value::Table(&LOG), "see below", "What becomes of its output."),
        key(
            "ready",
            Value::ChoiceOr(&["started", "notify", "probe"], &READY),
            "`started`",
            "When it counts as ready: at once, when it says `READY=1` (`sd_notify`), when its \
             health checks pass for the first time, or after a fixed time.",
        ),
        key("start_ms", ms(1), "30000", "How long it may take to become ready."),
        key("stop_signal", Value::Text, "`SIGTERM`", "The signal that asks it to stop."),
        key("stop_ms", ms(0), "10000", "How long it may take to stop before it is killed."),
        key(
            "promote",
            Value::Choice(&["restart", "socket"]),
            "`socket` where `standby = \"hot\"`, else `restart`",
            "How it becomes active: it is started anew, or it reads role changes as JSON lines \
             on `BACKSTAY_SOCKET` and answers.",
        ),
        key("promote_ms", ms(1), "5000", "How long a promotion may take."),
    ],
};

/// An entry of `health`.
pub static HEALTH: Table = Table {
    heading: "health",
    about: "One health check, with exactly one of `tcp`, `http` and `exec`.",
    keys: &[
        key("tcp", Value::Text, "none", "A TCP connection to this `address:port` succeeds."),
        key("http", Value::Text, "none", "A GET of this `http://` URL answers 200 to 299."),
        key("exec", COMMAND, "none", "This command, an absolute path, exits with status 0."),
        key("every_ms", ms(10), "1000", "How often it is asked."),
        key(
            "timeout_ms",
            ms(1),
            "half of `every_ms`, at most 5000",
            "How long an answer may take; shorter than `every_ms`.",
        ),
        key(
            "failures",
            count("failures", 1, 1_000),
            "3",
            "So many failures in a row make the instance unhealthy.",
        ),
        key(
            "active_only",
            Value::Flag,
            "`false`",
            "Only active instances are asked: for a standby that does not listen.",
        ),
    ],
};

/// `recovery` of a resource.
pub static RECOVERY: Table = Table {
    heading: "recovery",
    about: "What failures of a resource lead to: restart, then move, then quarantine.",
    keys: &[
        key(
            "restarts",
            count("restarts", 0, 1_000),
            "3",
            "Restarts on one node within the window before the resource moves.",
        ),
        key("window_ms", ms(1_000), "600000", "The window in which failures are counted."),
        key(
            "backoff_ms",
            ms(0),
            "250",
            "Pause before the second restart; it doubles with each one.",
        ),
        key("backoff_max_ms", ms(0), "30000", "The longest pause."),
        key(
            "node_ban_ms",
            ms(0),
            "600000",
            "How long a node that used up its restarts is left out.",
        ),
        key(
            "poison_nodes",
            count("nodes", 1, 512),
            "2",
            "Failing the same way on so many nodes within the window quarantines the resource, \
             so that the failure does not tour the cluster.",
        ),
    ],
};

/// `failback` of a resource, where it is a table.
pub static FAILBACK: Table = Table {
    heading: "failback",
    about: "`failback = { after_ms = 600000 }`: an automatic return.",
    keys: &[key(
        "after_ms",
        ms(1_000),
        "required",
        "It returns once the preferred node has been healthy for so long; the wait doubles after \
         a return that failed.",
    )],
};

/// `ready` of a resource, where it is a table.
pub static READY: Table = Table {
    heading: "ready",
    about: "`ready = { delay_ms = 500 }`: ready after a fixed time.",
    keys: &[key("delay_ms", ms(1), "required", "It counts as ready so long after its start.")],
};

/// `limits` of a resource.
pub static LIMITS: Table = Table {
    heading: "limits",
    about: "What a process may use at most.",
    keys: &[
        key("memory_bytes", bytes(1 << 20), "none", "Memory, with everything it started."),
        key("processes", count("processes", 1, 4_194_304), "none", "Processes and threads."),
        key("open_files", count("files", 16, 1 << 30), "none", "Open files of each process."),
        key(
            "cpu_percent",
            count("hundredths of a core", 1, 102_400),
            "none",
            "Processor time: 150 is one and a half cores.",
        ),
        key("core_bytes", bytes(0), "none", "Size of a core dump; 0 means none."),
    ],
};

/// `log` of a resource.
pub static LOG: Table = Table {
    heading: "log",
    about: "What becomes of a process's output.",
    keys: &[
        key(
            "rotate_bytes",
            count("bytes", 4_096, 1 << 40),
            "16777216",
            "A log file is rotated at this size.",
        ),
        key("keep", count("files", 0, 1_000), "4", "Rotated files that are kept."),
    ],
};

/// `[[hook]]`.
pub static HOOK: Table = Table {
    heading: "[[hook]]",
    about: "Someone who is told, with exactly one of `webhook` and `command`.",
    keys: &[
        key("webhook", Value::Text, "none", "A JSON object is posted to this URL."),
        key(
            "command",
            COMMAND,
            "none",
            "This command, an absolute path, gets the JSON object on its standard input.",
        ),
        key(
            "on",
            Value::Texts { max: 16 },
            "all",
            "Of what: `failover`, `quarantine`, `redundancy-lost`, `redundancy-restored`, \
             `certificate`.",
        ),
        key("timeout_ms", ms(1), "5000", "How long a call may take."),
    ],
};

/// Every table, in the order of the documentation.
pub static TABLES: &[&Table] = &[
    &CLUSTER, &PORTS, &NODE, &RESOURCE, &HEALTH, &RECOVERY, &FAILBACK, &READY, &LIMITS, &LOG, &HOOK,
];
