//! A specification as `cluster.toml`: complete, in one order, nothing left to a default. Reading
//! it gives the same specification, and two equal specifications give the same text.

use std::fmt::{self, Write};

use model::ClusterSpec;
use model::spec::{
    Failback, HealthSpec, HookCall, HookSpec, NodeSpec, Ports, Probe, ProcessSpec, Promote, Ready,
    ResourceKind, ResourceSpec, Standby,
};

/// One heading with its keys and values, as TOML writes them.
pub(crate) struct Section {
    heading: &'static str,
    /// Keys and values, in order.
    pub(crate) pairs: Vec<(&'static str, String)>,
}

/// The text that `apply` commits.
#[must_use]
pub fn to_toml(spec: &ClusterSpec) -> String {
    let mut out = cluster(spec);
    for (name, node) in &spec.nodes {
        out.extend(self::node(name.as_str(), node));
    }
    for (name, resource) in &spec.resources {
        out.extend(self::resource(name.as_str(), resource));
    }
    for hook in &spec.hooks {
        out.extend(self::hook(hook));
    }
    let sections: Vec<String> = out.iter().map(Section::to_string).collect();
    sections.join("\n")
}

/// `[cluster]` as sections.
pub(crate) fn cluster(spec: &ClusterSpec) -> Vec<Section> {
    let mut out = Printer::new("[cluster]");
    out.text("name", &spec.name);
    out.text("profile", spec.profile.as_str());
    out.ports(Some(spec.ports));
    out.0
}

/// A node as sections.
pub(crate) fn node(name: &str, node: &NodeSpec) -> Vec<Section> {
    let mut out = Printer::new("[[node]]");
    out.node(name, node);
    out.0
}

/// A resource as sections.
pub(crate) fn resource(name: &str, resource: &ResourceSpec) -> Vec<Section> {
    let mut out = Printer::new("[[resource]]");
    out.resource(name, resource);
    out.0
}

/// A hook as sections.
pub(crate) fn hook(hook: &HookSpec) -> Vec<Section> {
    let mut out = Printer::new("[[hook]]");
    out.hook(hook);
    out.0
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading)?;
        self.pairs.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

struct Printer(Vec<Section>);

impl Printer {
    fn new(heading: &'static str) -> Printer {
        Printer(vec![Section { heading, pairs: Vec::new() }])
    }

    fn heading(&mut self, heading: &'static str) {
        self.0.push(Section { heading, pairs: Vec::new() });
    }

    fn raw(&mut self, key: &'static str, value: impl fmt::Display) {
        if let Some(section) = self.0.last_mut() {
            section.pairs.push((key, value.to_string()));
        }
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.raw(key, quoted(value));
    }

    fn maybe_text(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn maybe_raw(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.raw(key, value);
        }
    }

    fn list<T: ToString>(&mut self, key: &'static str, values: impl IntoIterator<Item = T>) {
        let list = list_of(values);
        if list != "[]" {
            self.raw(key, list);
        }
    }

    fn ports(&mut self, ports: Option<Ports>) {
        if let Some(Ports { peer, heartbeat, api }) = ports {
            self.raw("ports", format!("{{ peer = {peer}, heartbeat = {heartbeat}, api = {api} }}"));
        }
    }

    fn node(&mut self, name: &str, node: &NodeSpec) {
        self.text("name", name);
        self.list("links", &node.links);
        self.ports(node.ports);
        self.maybe_text("site", node.domains.site.as_deref());
        self.maybe_text("rack", node.domains.rack.as_deref());
        self.maybe_text("power", node.domains.power.as_deref());
        self.raw("witness", node.witness);
        self.raw("voter", node.voter);
    }

    fn resource(&mut self, name: &str, resource: &ResourceSpec) {
        let ResourceSpec {
            kind,
            standby,
            prefer,
            nodes,
            spread,
            with,
            after,
            health,
            rto_ms,
            rpo_bytes,
            recovery,
            failback,
        } = resource;
        self.text("name", name);
        self.text("kind", kind.as_str());
        self.text("mode", "active-passive");
        self.text("standby", if *standby == Standby::Hot { "hot" } else { "cold" });
        self.list("prefer", prefer);
        self.list("nodes", nodes);
        self.maybe_text("spread", spread.map(|kind| kind.as_str()));
        self.maybe_text("with", with.as_ref().map(|other| other.as_str()));
        self.list("after", after);
        self.maybe_raw("rto_ms", *rto_ms);
        self.maybe_raw("rpo_bytes", *rpo_bytes);
        match failback {
            Failback::Manual => self.text("failback", "manual"),
            Failback::AfterMs(ms) => self.raw("failback", format!("{{ after_ms = {ms} }}")),
        }
        match kind {
            ResourceKind::Process(process) => self.process(process),
            ResourceKind::Address(address) => {
                self.text("address", &address.to_string());
                self.maybe_text("interface", address.interface.as_deref());
            }
        }
        if !health.is_empty() {
            let checks: Vec<String> = health.iter().map(health_check).collect();
            self.raw("health", format!("[\n  {},\n]", checks.join(",\n  ")));
        }
        self.heading("[resource.recovery]");
        self.raw("restarts", recovery.restarts);
        self.raw("window_ms", recovery.window_ms);
        self.raw("backoff_ms", recovery.backoff_ms);
        self.raw("backoff_max_ms", recovery.backoff_max_ms);
        self.raw("node_ban_ms", recovery.node_ban_ms);
        self.raw("poison_nodes", recovery.poison_nodes);
    }

    fn process(&mut self, process: &ProcessSpec) {
        self.raw("command", list_of(&process.command));
        self.maybe_text("user", process.user.as_deref());
        self.maybe_text("group", process.group.as_deref());
        if !process.environment.is_empty() {
            let variables = process.environment.iter();
            let pairs: Vec<String> =
                variables.map(|(key, value)| format!("{key} = {}", quoted(value))).collect();
            self.raw("environment", format!("{{ {} }}", pairs.join(", ")));
        }
        self.maybe_text("directory", process.directory.as_deref());
        let limits = &process.limits;
        let pairs: Vec<String> = [
            ("memory_bytes", limits.memory_bytes),
            ("processes", limits.processes),
            ("open_files", limits.open_files),
            ("cpu_percent", limits.cpu_percent.map(u64::from)),
            ("core_bytes", limits.core_bytes),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
        .collect();
        if !pairs.is_empty() {
            self.raw("limits", format!("{{ {} }}", pairs.join(", ")));
        }
        let log = &process.log;
        let (rotate, keep) = (log.rotate_bytes, log.keep);
        self.raw("log", format!("{{ rotate_bytes = {rotate}, keep = {keep} }}"));
        match &process.ready {
            Ready::Started => self.text("ready", "started"),
            Ready::Notify => self.text("ready", "notify"),
            Ready::Probe => self.text("ready", "probe"),
            Ready::DelayMs(ms) => self.raw("ready", format!("{{ delay_ms = {ms} }}")),
        }
        self.raw("start_ms", process.start_ms);
        self.text("stop_signal", &process.stop_signal);
        self.raw("stop_ms", process.stop_ms);
        let promote = if process.promote == Promote::Socket { "socket" } else { "restart" };
        self.text("promote", promote);
        self.raw("promote_ms", process.promote_ms);
    }

    fn hook(&mut self, hook: &HookSpec) {
        match &hook.call {
            HookCall::Webhook(url) => self.text("webhook", url),
            HookCall::Command(words) => self.raw("command", list_of(words)),
        }
        self.list("on", hook.on.iter().map(|event| event.as_str()));
        self.raw("timeout_ms", hook.timeout_ms);
    }
}

fn health_check(check: &HealthSpec) -> String {
    let probe = match &check.probe {
        Probe::Tcp(address) => format!("tcp = {}", quoted(address)),
        Probe::Http(url) => format!("http = {}", quoted(url)),
        Probe::Exec(words) => format!("exec = {}", list_of(words)),
    };
    format!(
        "{{ {probe}, every_ms = {}, timeout_ms = {}, failures = {}, active_only = {} }}",
        check.every_ms, check.timeout_ms, check.failures, check.active_only
    )
}

fn list_of<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML basic string on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
