//! Who may call what: one table, one row a method. A method without a row is called by nobody.

use paceline_proto::access::Role;
use paceline_proto::fault::Fault;
use paceline_proto::wire;

use super::caller::Known;
use super::lanes::Lane;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Even a stranger: probes have no token.
    Anyone,
    /// Whoever is known, in any role.
    Known,
    /// These roles.
    Only(&'static [Role]),
}

/// What a call does, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that lasts.
    Reads,
    /// A worker's everyday work, which the journal keeps anyway: audited at level debug.
    Works,
    /// A change that somebody asked for: audited at level info.
    Changes,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `package.Service/Method`.
    pub(crate) method: &'static str,
    pub(crate) who: Who,
    pub(crate) effect: Effect,
    pub(crate) lane: Lane,
}

impl Rule {
    /// Largest message, in bytes.
    pub(crate) fn largest(&self) -> usize {
        wire::largest(self.method)
    }

    /// Whether a call is more than one message.
    pub(crate) fn streams(&self) -> bool {
        REFLECTION.contains(&self.method)
    }
}

const fn rule(method: &'static str, who: Who, effect: Effect, lane: Lane) -> Rule {
    Rule { method, who, effect, lane }
}

const WORKERS: Who = Who::Only(&[Role::Worker]);
const PEOPLE: Who = Who::Only(&[Role::User, Role::Operator]);
const OPERATORS: Who = Who::Only(&[Role::Operator]);

/// Under its name and its earlier one.
const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The table.
pub(crate) const RULES: &[Rule] = &[
    rule("paceline.v1.WorkerService/RegisterWorker", WORKERS, Effect::Changes, Lane::Work),
    rule("paceline.v1.WorkerService/LeaseWork", WORKERS, Effect::Works, Lane::Polls),
    rule("paceline.v1.WorkerService/Heartbeat", WORKERS, Effect::Works, Lane::Heartbeats),
    rule("paceline.v1.WorkerService/SubmitResult", WORKERS, Effect::Works, Lane::Work),
    rule("paceline.v1.WorkerService/ReleaseLeases", WORKERS, Effect::Works, Lane::Work),
    rule("paceline.v1.WorkerService/PullTheta", WORKERS, Effect::Reads, Lane::Streams),
    rule("paceline.v1.RunService/CreateRun", PEOPLE, Effect::Changes, Lane::People),
    rule("paceline.v1.RunService/GetRun", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.RunService/ListRuns", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.RunService/ListSteps", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.RunService/ListEvaluations", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.RunService/RecordEvaluation", PEOPLE, Effect::Changes, Lane::People),
    rule("paceline.v1.RunService/WatchRun", PEOPLE, Effect::Reads, Lane::Streams),
    rule("paceline.v1.RunService/PauseRun", PEOPLE, Effect::Changes, Lane::People),
    rule("paceline.v1.RunService/ResumeRun", PEOPLE, Effect::Changes, Lane::People),
    rule("paceline.v1.RunService/StopRun", PEOPLE, Effect::Changes, Lane::People),
    rule("paceline.v1.CheckpointService/ListCheckpoints", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.CheckpointService/GetCheckpoint", PEOPLE, Effect::Reads, Lane::People),
    rule("paceline.v1.CheckpointService/PullCheckpoint", PEOPLE, Effect::Reads, Lane::Streams),
    rule("paceline.v1.FleetService/CreateToken", OPERATORS, Effect::Changes, Lane::People),
    rule("paceline.v1.FleetService/ListTokens", OPERATORS, Effect::Reads, Lane::People),
    rule("paceline.v1.FleetService/RevokeTokens", OPERATORS, Effect::Changes, Lane::People),
    rule("grpc.health.v1.Health/Check", Who::Anyone, Effect::Reads, Lane::Probes),
    rule("grpc.health.v1.Health/Watch", Who::Anyone, Effect::Reads, Lane::Probes),
    rule(REFLECTION[0], Who::Known, Effect::Reads, Lane::Probes),
    rule(REFLECTION[1], Who::Known, Effect::Reads, Lane::Probes),
];

/// The row of a path such as `/paceline.v1.RunService/GetRun`.
pub(crate) fn rule_of(path: &str) -> Option<&'static Rule> {
    let method = path.strip_prefix('/')?;
    RULES.iter().find(|rule| rule.method == method)
}

/// Whether a caller may: `None` is a stranger.
///
/// # Errors
/// [`Fault::CredentialMissing`], [`Fault::RoleMissing`].
pub(crate) fn allow(rule: &Rule, caller: Option<&Known>) -> Result<(), Fault> {
    match (rule.who, caller) {
        (Who::Anyone, _) | (Who::Known, Some(_)) => Ok(()),
        (Who::Known | Who::Only(_), None) => Err(Fault::CredentialMissing),
        (Who::Only(roles), Some(known)) if roles.contains(&known.role) => Ok(()),
        (Who::Only(roles), Some(known)) => Err(Fault::RoleMissing {
            method: rule.method.to_owned(),
            caller: known.to_string(),
            needed: roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method this coordinator serves, from its descriptors.
    fn served() -> BTreeSet<String> {
        let sets = [
            paceline_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
        let mut methods = BTreeSet::new();
        for file in files {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| format!("{name}/{}", method.name())));
            }
        }
        methods
    }

    #[test]
    fn every_method_has_one_row_and_every_row_a_method() {
        let rows: BTreeSet<String> = RULES.iter().map(|rule| rule.method.to_owned()).collect();
        assert_eq!(rows.len(), RULES.len(), "a method stands in the table twice");
        assert_eq!(rows, served(), "left: the table, right: what is served");
    }

    #[test]
    fn only_four_methods_take_large_messages() {
        let large: Vec<_> = RULES.iter().filter(|rule| rule.largest() > 64 << 10).map(|rule| rule.method).collect();
        assert_eq!(large.len(), 4, "{large:?}");
    }

    #[test]
    fn what_is_not_in_the_table_is_called_by_nobody() {
        assert!(rule_of("/paceline.v1.RunService/GetRun").is_some());
        for path in ["", "/", "paceline.v1.RunService/GetRun", "/paceline.v1.RunService/getrun", "//x", "/x/../y"] {
            assert_eq!(rule_of(path), None, "{path}");
        }
    }

    #[test]
    fn each_role_may_do_its_own_and_no_more() {
        let may = |service: &str, role: Option<Role>| {
            let holder = "x".parse().unwrap();
            let known = role.map(|role| Known { role, holder, token: None });
            let rules = RULES.iter().filter(|rule| rule.method.contains(service));
            let allowed: BTreeSet<bool> = rules.map(|rule| allow(rule, known.as_ref()).is_ok()).collect();
            assert_eq!(allowed.len(), 1, "{service} is half open to {role:?}");
            allowed.contains(&true)
        };
        let all = [None, Some(Role::Worker), Some(Role::User), Some(Role::Operator)];
        for (service, expected) in [
            ("v1.WorkerService", [false, true, false, false]),
            ("v1.RunService", [false, false, true, true]),
            ("v1.CheckpointService", [false, false, true, true]),
            ("v1.FleetService", [false, false, false, true]),
            ("health", [true; 4]),
            ("reflection", [false, true, true, true]),
        ] {
            assert_eq!(all.map(|role| may(service, role)), expected, "{service}");
        }
    }
}
