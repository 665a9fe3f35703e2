//! Do the schedules exist, and do they start the watch function when they should?

use aws_sdk_scheduler::Client as Scheduler;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::expected::{Part, Parts, different, place_of_difference, restore, shown};
use super::{About, Check, Observation, Stack, why};
use crate::escape::inert;

pub(super) static SCHEDULES: About = About {
    id: "schedules-live",
    what: "The schedules exist, are enabled, and start the watch function at the template's times.",
    kind: "AWS::Scheduler::Schedule",
};

/// Looks at the schedules of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, parts: &Parts) -> Check {
    check(&Scheduler::new(sdk), guard, parts).await
}

async fn check(scheduler: &Scheduler, guard: &Stack, parts: &Parts) -> Check {
    let schedules = parts.all(guard, "AWS::Scheduler::Schedule");
    let looks = join_all(schedules.map(|(logical, id, part)| schedule(scheduler, guard, logical, id, part))).await;
    let none = || vec![Observation::unknown("What the schedules do", "there are none that can be read")];
    Check::of(&SCHEDULES, if looks.is_empty() { none() } else { looks })
}

async fn schedule(scheduler: &Scheduler, guard: &Stack, logical: &str, id: &str, part: &Part) -> Observation {
    let found = match scheduler.get_schedule().name(id).send().await {
        Ok(found) => as_template(&found),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            let gone = format!("The schedule {logical} is gone, so what it starts doesn't take place.");
            return restore(Observation::fail(gone), guard);
        }
        Err(error) => {
            return Observation::unknown(&format!("The schedule {logical}"), &why("scheduler:GetSchedule", &error));
        }
    };
    let state = found.get("State").and_then(Value::as_str).unwrap_or("unknown");
    if state != "ENABLED" {
        let off = format!("The schedule {logical} is {}, so what it starts doesn't take place.", inert(state, 64));
        return restore(Observation::fail(off), guard);
    }
    // What the template leaves to AWS.
    let defaults = [("State", json!("ENABLED")), ("ScheduleExpressionTimezone", json!("UTC"))];
    let mut wanted = part.properties.clone();
    for (property, value) in defaults {
        wanted.entry(property).or_insert(value);
    }
    let Some(property) = different(&wanted, &found) else {
        let at = inert(found.get("ScheduleExpression").and_then(Value::as_str).unwrap_or_default(), 100);
        return Observation::pass(format!("{logical} starts the watch function: {at}."));
    };
    let (wanted, found) = (wanted.get(&property), found.get(&property));
    let say = match (wanted.and_then(Value::as_object), found.and_then(Value::as_object)) {
        (Some(_), Some(_)) => {
            let place = wanted.zip(found).and_then(|(wanted, found)| place_of_difference(wanted, found));
            format!("{property}.{} isn't the template's", place.unwrap_or_default())
        }
        _ => format!("{property} is {}, and not {}", shown(found), shown(wanted)),
    };
    restore(Observation::fail(format!("The schedule {logical} was changed: {say}.")), guard)
}

/// A schedule as a template has it.
fn as_template(found: &GetScheduleOutput) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("State", found.state().map(|state| state.as_str().into()));
    put("ScheduleExpression", found.schedule_expression().map(Value::from));
    put("ScheduleExpressionTimezone", found.schedule_expression_timezone().map(Value::from));
    put("StartDate", found.start_date().map(|at| at.secs().into()));
    put("EndDate", found.end_date().map(|at| at.secs().into()));
    put("FlexibleTimeWindow", found.flexible_time_window().map(|window| json!({"Mode": window.mode().as_str()})));
    put(
        "Target",
        found.target().map(|target| {
            let mut fields = Map::new();
            fields.insert("Arn".into(), target.arn().into());
            fields.insert("RoleArn".into(), target.role_arn().into());
            if let Some(input) = target.input() {
                fields.insert("Input".into(), input.into());
            }
            if let Some(arn) = target.dead_letter_config().and_then(|config| config.arn()) {
                fields.insert("DeadLetterConfig".into(), json!({"Arn": arn}));
            }
            if let Some(policy) = target.retry_policy() {
                let limits = json!({
                    "MaximumEventAgeInSeconds": policy.maximum_event_age_in_seconds(),
                    "MaximumRetryAttempts": policy.maximum_retry_attempts(),
                });
                fields.insert("RetryPolicy".into(), limits);
            }
            Value::Object(fields)
        }),
    );
    fields
}
