//! The configuration of a lab's cluster: its nodes, a service behind an address that moves.

use super::{ADDRESS, Cluster, MOVING, NODES, ORDERS, REMEMBERED, STORE};

impl Cluster {
    pub(super) fn configuration(&self) -> String {
        let node = |(number, name): (usize, &&str)| {
            let n = number + 1;
            let links = format!("links = [\"10.77.0.{n}\", \"10.77.1.{n}\"]");
            let role = match self.setup.role(number) {
                "witness" => "witness = true\n",
                "member" => "voter = false\n",
                _ => "",
            };
            format!("\n[[node]]\nname = \"{name}\"\n{links}\n{role}")
        };
        let nodes: String = NODES.iter().enumerate().map(node).collect();
        let listen = NODES.map(|name| format!("{name}=0.0.0.0:7500")).join(",");
        let (binary, log) = (self.binary(), self.path("active.jsonl"));
        let words = [
            binary.as_str(),
            "example",
            "orders-server",
            "--listen",
            &listen,
            "--store",
            STORE,
            "--active-log",
            &log,
        ];
        let profile = &self.setup.profile;
        let idle = |n| {
            format!(
                "\n[[resource]]\nname = \"idle-{n}\"\nkind = \"process\"\n\
                 command = [\"/bin/sleep\", \"1000000\"]\nstandby = \"cold\"\n"
            )
        };
        let idle: String = (0..self.setup.idle).map(idle).collect();
        let remembered = REMEMBERED.as_millis();
        let recovery = format!(
            "recovery = {{ restarts = 100, window_ms = {remembered}, node_ban_ms = {remembered} }}"
        );
        format!(
            "[cluster]\nname = \"lab\"\nprofile = \"{profile}\"\n{nodes}\n\
             [[resource]]\nname = \"{ORDERS}\"\nkind = \"process\"\ncommand = {words:?}\n\
             standby = \"hot\"\nready = \"notify\"\npromote = \"socket\"\n\
             {recovery}\n\n\
             [[resource]]\nname = \"{MOVING}\"\nkind = \"address\"\naddress = \"{ADDRESS}/24\"\n\
             with = \"{ORDERS}\"\n{recovery}\n{idle}"
        )
    }
}
