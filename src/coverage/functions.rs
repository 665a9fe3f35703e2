//! Can the guard's functions be invoked and run, and is kept what they fail on?

use aws_sdk_lambda::Client as Lambda;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::{LastUpdateStatus, State};
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::expected::{Part, Parts, different, restore, shown};
use super::rules::arn_of;
use super::{About, Check, Observation, Stack, is_missing, plain, why};
use crate::escape::{inert, name};
use crate::policy::{AccessRequest, Answer};

pub(super) static INVOKES: About = About {
    id: "function-invocable",
    what: "The alert function lets EventBridge invoke it for each rule.",
    kind: "AWS::Lambda::Permission",
};
pub(super) static FUNCTION: About = About {
    id: "function-ready",
    what: "The guard's functions exist, may run, and are set up as the stack says.",
    kind: "AWS::Lambda::Function",
};
pub(super) static KEEPS: About = About {
    id: "failures-kept",
    what: "What the functions fail on is kept in their failure queues.",
    kind: "AWS::Lambda::EventInvokeConfig",
};

/// Looks at the functions of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, parts: &Parts) -> Vec<Check> {
    checks(&Lambda::new(sdk), guard, parts).await
}

pub(super) async fn checks(lambda: &Lambda, guard: &Stack, parts: &Parts) -> Vec<Check> {
    let (invokes, (ready, keeps)) = tokio::join!(invocable(lambda, guard, parts), functions(lambda, guard, parts));
    vec![Check::of(&INVOKES, invokes), Check::of(&FUNCTION, ready), Check::of(&KEEPS, keeps)]
}

/// The last part of a URL or ARN.
fn last(id: &str) -> &str {
    id.rsplit(['/', ':']).next().unwrap_or(id)
}

/// Whether a rule of the template hands on to what has this ARN.
pub(super) fn hands_to(rule: &Part, arn: &str) -> bool {
    let targets = rule.properties.get("Targets").and_then(Value::as_array);
    targets.into_iter().flatten().any(|target| target.get("Arn").is_some_and(|target| target == arn))
}

async fn invocable(lambda: &Lambda, guard: &Stack, parts: &Parts) -> Vec<Observation> {
    let Some(function) = guard.id("AlertFunction") else { return vec![no_function(guard)] };
    let policy = match lambda.get_policy().function_name(function).send().await {
        Ok(answer) => answer.policy().unwrap_or_default().to_owned(),
        // A function without any permission has no policy.
        Err(error) if is_missing(&error) => r#"{"Statement":[]}"#.to_owned(),
        Err(error) => {
            return vec![Observation::unknown("Who may invoke the alert function", &why("lambda:GetPolicy", &error))];
        }
    };
    let arn = guard.arn("lambda", &format!("function:{function}"));
    let rules = parts.all(guard, "AWS::Events::Rule").filter(|(_, _, rule)| hands_to(rule, &arn));
    let looks = rules.map(|(logical, id, _)| {
        let rule = arn_of(guard, id);
        let keys = [("aws:sourcearn", rule.as_str()), ("aws:sourceaccount", guard.account.as_str())];
        let request = AccessRequest {
            principal: "events.amazonaws.com",
            action: "lambda:InvokeFunction",
            resource: &arn,
            keys: &keys,
        };
        match request.under(&policy) {
            Answer::Allowed => Observation::pass(format!("The rule {logical} may invoke the alert function."))
                .of_several(logical, "{count} rules may invoke the alert function."),
            Answer::Unclear => Observation::unknown(
                &format!("Whether {logical} may invoke the alert function"),
                "its policy holds a condition that can't be judged",
            ),
            Answer::Forbidden | Answer::Silent => Observation::fail(format!(
                "The alert function doesn't let EventBridge invoke it for the rule {logical}."
            ))
            .of_several(logical, "The alert function doesn't let EventBridge invoke it for {count} rules: {names}.")
            .mend(
                "Let it:",
                format!(
                    "aws lambda add-permission --region {} --function-name {} --statement-id {logical} --action lambda:InvokeFunction --principal events.amazonaws.com --source-arn {}",
                    guard.region,
                    plain(function, "FUNCTION"),
                    plain(&rule, "RULE-ARN"),
                ),
            ),
        }
    });
    looks.collect()
}

fn no_function(guard: &Stack) -> Observation {
    Observation::fail(format!("The stack {} has no alert function.", guard.stack))
        .advise("Deploy the template again (make deploy).")
}

async fn functions(lambda: &Lambda, guard: &Stack, parts: &Parts) -> (Vec<Observation>, Vec<Observation>) {
    let all: Vec<_> = parts.all(guard, "AWS::Lambda::Function").collect();
    if guard.id("AlertFunction").is_none() {
        return (vec![no_function(guard)], vec![Observation::unknown("What is kept", "there is no alert function")]);
    }
    let looks = join_all(all.iter().map(|(logical, id, part)| async move {
        tokio::join!(ready(lambda, guard, logical, id, part), keeps(lambda, guard, logical, id))
    }));
    looks.await.into_iter().unzip()
}

async fn ready(lambda: &Lambda, guard: &Stack, logical: &str, id: &str, part: &Part) -> Observation {
    let (region, shown_id) = (&guard.region, plain(id, "FUNCTION"));
    let (configuration, concurrency) = tokio::join!(
        lambda.get_function_configuration().function_name(id).send(),
        lambda.get_function_concurrency().function_name(id).send()
    );
    let configuration = match configuration {
        Ok(configuration) => configuration,
        Err(error) if is_missing(&error) => {
            let gone = Observation::fail(format!("The function {logical} ({}) is gone.", name(id, 140)));
            return restore(gone, guard);
        }
        Err(error) => {
            let reason = why("lambda:GetFunctionConfiguration", &error);
            return Observation::unknown(&format!("The function {logical}"), &reason);
        }
    };
    if let Some((what, reason)) = broken(&configuration) {
        let reason = inert(reason.unwrap_or("AWS gives no reason"), 200);
        return Observation::fail(format!("The function {logical} {what}: {reason}.")).mend(
            "See its state, fix the cause, and deploy again (make deploy):",
            format!("aws lambda get-function-configuration --region {region} --function-name {shown_id}"),
        );
    }
    match concurrency {
        Ok(answer) if answer.reserved_concurrent_executions() == Some(0) => {
            return Observation::fail(format!(
                "The function {logical} is throttled to nothing: its reserved concurrency is 0."
            ))
            .mend(
                "Take the limit away:",
                format!("aws lambda delete-function-concurrency --region {region} --function-name {shown_id}"),
            );
        }
        Ok(_) => {}
        Err(error) => {
            let reason = why("lambda:GetFunctionConcurrency", &error);
            return Observation::unknown(&format!("Whether {logical} is throttled"), &reason);
        }
    }
    let set = configuration.environment().and_then(|environment| environment.variables()).into_iter().flatten();
    let set: Map<String, Value> = set.map(|(variable, value)| (variable.clone(), value.clone().into())).collect();
    let wanted = part.properties.get("Environment").and_then(|of| of.get("Variables")).and_then(Value::as_object);
    if let Some(wanted) = wanted
        && let Some(variable) = different(wanted, &set)
    {
        let look = Observation::fail(format!(
            "The function {logical} has {} in {}, and not the stack's {}.",
            shown(set.get(&variable)),
            name(&variable, 100),
            shown(wanted.get(&variable)),
        ));
        return restore(look, guard);
    }
    Observation::pass(format!("{logical} can run and has the stack's variables."))
        .of_several(logical, "{count} functions can run and have the stack's variables: {names}.")
}

/// What is wrong with a function that Lambda can't run, or runs as it was before. One that is idle for long is Inactive, and
/// becomes Active when it is invoked.
fn broken(configuration: &GetFunctionConfigurationOutput) -> Option<(&'static str, Option<&str>)> {
    match (configuration.state(), configuration.last_update_status()) {
        (Some(State::Failed), _) => Some(("is Failed", configuration.state_reason())),
        (_, Some(LastUpdateStatus::Failed)) => {
            Some(("could not be updated", configuration.last_update_status_reason()))
        }
        _ => None,
    }
}

/// Scheduled or by event, the functions are invoked asynchronously: what they fail on three times is lost unless it has
/// somewhere to go.
async fn keeps(lambda: &Lambda, guard: &Stack, logical: &str, id: &str) -> Observation {
    // What EventBridge and Scheduler invoke is the function without a version.
    let answer = lambda.get_function_event_invoke_config().function_name(id).qualifier("$LATEST").send().await;
    let destination = match answer {
        Ok(answer) => {
            let failure = answer.destination_config().and_then(|config| config.on_failure());
            failure.and_then(|failure| failure.destination()).map(str::to_owned)
        }
        Err(error) if is_missing(&error) => None,
        Err(error) => {
            let reason = why("lambda:GetFunctionEventInvokeConfig", &error);
            return Observation::unknown(&format!("Where what {logical} fails on goes"), &reason);
        }
    };
    let queues: Vec<_> = guard.failure_queues().map(|(_, url)| guard.queue_arn(url)).collect();
    match destination {
        Some(destination) if queues.contains(&destination) => {
            Observation::pass(format!("What {logical} fails on goes to the queue {}.", name(last(&destination), 140)))
        }
        Some(other) => Observation::warn(format!(
            "What {logical} fails on goes to {}, which isn't a queue of the guard's stack, so no alarm reports it.",
            name(&other, 256)
        )),
        None => {
            let own = if logical == "AlertFunction" { guard.id("AlertFailureQueue") } else { None };
            let queue = own.map(|url| guard.queue_arn(url));
            let lost = Observation::fail(format!("What {logical} fails on is lost: it has no on-failure destination."));
            match queue.as_deref().filter(|queue| plain(queue, "") == *queue) {
                Some(queue) => lost.mend(
                    "Keep it in the failure queue:",
                    format!(
                        "aws lambda put-function-event-invoke-config --region {} --function-name {} --qualifier '$LATEST' --maximum-retry-attempts 2 --maximum-event-age-in-seconds 21600 --destination-config '{{\"OnFailure\":{{\"Destination\":\"{queue}\"}}}}'",
                        guard.region,
                        plain(id, "FUNCTION")
                    ),
                ),
                None => restore(lost, guard),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_that_failed_or_could_not_be_updated_is_broken() {
        let configuration = GetFunctionConfigurationOutput::builder;
        let failed = configuration().state(State::Failed).state_reason("The image is gone").build();
        assert_eq!(broken(&failed), Some(("is Failed", Some("The image is gone"))));
        let stale = configuration().state(State::Active).last_update_status(LastUpdateStatus::Failed);
        let stale = stale.last_update_status_reason("KMS key is disabled").build();
        assert_eq!(broken(&stale), Some(("could not be updated", Some("KMS key is disabled"))));
        for state in [State::Active, State::Inactive, State::Pending] {
            let ready = configuration().state(state).last_update_status(LastUpdateStatus::Successful).build();
            assert_eq!(broken(&ready), None);
        }
        assert_eq!(broken(&configuration().build()), None);
    }
}
