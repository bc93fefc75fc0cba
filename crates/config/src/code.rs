//! Every error and warning has a code: stable for programs, listed with its meaning in
//! `docs/reference/configuration.md`.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, and something can go wrong that the operator may not expect.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its name in `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $severity:ident, $meaning:literal;)*) => {
        /// What a diagnostic is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// Its stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// How bad it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity,)* }
            }

            /// What it means, as one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    CannotRead = "cannot-read", Error, "A file or directory can't be read.";
    NotText = "not-text", Error, "The file is not UTF-8 text.";
    TooLarge = "too-large", Error, "The text is larger than the limit.";
    Syntax = "syntax", Error, "The text is not TOML.";
    Include = "include", Error, "An include can't be used here, or names no directory.";
    Snippet = "snippet", Error, "A snippet holds something that belongs in the main file.";
    UnknownKey = "unknown-key", Error, "There is no such key here.";
    MissingKey = "missing-key", Error, "A key that must be there is not.";
    WrongType = "wrong-type", Error, "The value has the wrong type.";
    OutOfRange = "out-of-range", Error, "The number is too small or too large.";
    NotAChoice = "not-a-choice", Error, "The value is none of the possible ones.";
    NotSupported = "not-supported", Error, "A kind or mode that this version can't run.";
    TooMany = "too-many", Error, "More entries than the limit.";
    TooLong = "too-long", Error, "A text is longer than the limit.";
    BadName = "bad-name", Error, "The name has characters that a name can't have.";
    BadAddress = "bad-address", Error, "Not an address that other nodes can reach.";
    BadCommand = "bad-command", Error, "A command is empty or its program has no absolute path.";
    BadPath = "bad-path", Error, "A path is not absolute.";
    BadEnvironment = "bad-environment", Error, "An environment variable can't be set.";
    BadSignal = "bad-signal", Error, "Not a signal that can ask a process to stop.";
    BadUser = "bad-user", Error, "Not a user or group name or number.";
    BadProbe = "bad-probe", Error, "A health check asks nothing, two things, or a bad address.";
    BadUrl = "bad-url", Error, "Not a URL that can be called.";
    DuplicateName = "duplicate-name", Error, "Two nodes or two resources have one name.";
    DuplicateAddress = "duplicate-address", Error,
        "Two nodes use one address and port, or two owners one address.";
    DuplicatePort = "duplicate-port", Error, "One port is given to two listeners of a node.";
    DuplicateEntry = "duplicate-entry", Error, "A list names the same thing twice.";
    NoNode = "no-node", Error, "There is no node.";
    UnknownNode = "unknown-node", Error, "A resource names a node that does not exist.";
    UnknownResource = "unknown-resource", Error, "A resource names another that does not exist.";
    SelfReference = "self-reference", Error, "A resource names itself.";
    Cycle = "cycle", Error, "Resources wait for each other in a circle.";
    WitnessRuns = "witness-runs", Error, "A resource is placed on a witness, which runs nothing.";
    WitnessVote = "witness-vote", Error, "A witness without a vote would be nothing at all.";
    NoVoter = "no-voter", Error, "No node votes.";
    TooManyVoters = "too-many-voters", Error, "More voters than the limit.";
    VotersNotChosen = "voters-not-chosen", Error,
        "More nodes than can all vote, and none is chosen.";
    NowhereToRun = "nowhere-to-run", Error, "No node may run the resource.";
    PreferOutside = "prefer-outside", Error, "A preferred node is not among the allowed ones.";
    TimeoutTooLong = "timeout-too-long", Error, "A health check's timeout reaches its interval.";
    BackoffOrder = "backoff-order", Error, "The longest pause is shorter than the first.";
    RtoImpossible = "rto-impossible", Error,
        "The timers alone take longer than the recovery-time target.";
    ProfileRefused = "profile-refused", Error, "The measured machines break the profile.";
    OneVoter = "one-voter", Warning, "One node votes: its loss stops all decisions.";
    TwoVoters = "two-voters", Warning, "Two nodes vote: the loss of either stops all decisions.";
    EvenVoters = "even-voters", Warning, "An even number of voters survives no more than one less.";
    SharedDomain = "shared-domain", Warning, "The loss of one failure domain takes the quorum.";
    OneLink = "one-link", Warning, "A node has one link.";
    UnevenLinks = "uneven-links", Warning, "Nodes have different numbers of links.";
    SameSubnet = "same-subnet", Warning, "Links of a node share a subnet.";
    MixedLoopback = "mixed-loopback", Warning, "Some nodes are on loopback and others are not.";
    NoSecondNode = "no-second-node", Warning, "Only one node may run the resource.";
    StandbyUseless = "standby-useless", Warning, "A hot standby has no second node to wait on.";
    SpreadUseless = "spread-useless", Warning, "There is only one domain to spread over.";
    PreferAlone = "prefer-alone", Warning, "A preference that orders nothing.";
    PreferIgnored = "prefer-ignored", Warning, "A preference that `with` overrides.";
    WithApart = "with-apart", Warning, "Fewer nodes may run the pair than the leader alone.";
    NoInterface = "no-interface", Warning,
        "A node has no link in the network of an address that moves.";
    NameLookup = "name-lookup", Warning, "A health check depends on name lookup.";
    HealthTooSlow = "health-too-slow", Warning,
        "A hung instance is noticed later than the target allows.";
    RtoLimit = "rto-limit", Warning, "The start or promotion limit is longer than what is left.";
    LeaseLapse = "lease-lapse", Warning, "Leases would lapse with nothing wrong, now and then.";
    NotMeasured = "not-measured", Warning,
        "A fast profile is named, and not everything it rests on was measured.";
    ProfileNotNamed = "profile-not-named", Warning, "No profile is named: `cloud` applies.";
    NoHealth = "no-health", Note, "A resource with a target has no health check.";
    NoDomains = "no-domains", Note, "Voters without failure domains can't be judged.";
    VotersImplicit = "voters-implicit", Note, "Which nodes vote follows from the default.";
    More = "more", Note, "There are more diagnostics than are shown.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
