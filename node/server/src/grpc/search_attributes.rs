//! Search attributes of a start or a completion, against what the namespace has: known names, values of the right type.
//!
//! The rules are the engine's ([`stanchion_engine::validate::search_attributes`]); what the namespace has is the meta group's.
//!
//! Called by the handlers that start runs, complete workflow tasks and describe, and by the operator service.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanchion_engine::Rejection;
use stanchion_engine::validate::absent;
use stanchion_engine::validate::search_attributes::{check as check_against, check_sizes, everywhere};
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes};

use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::CallError;

/// Refuses names that the namespace does not have and values of another type; notes the type in each value, as the real server does.
pub async fn check(
    node: &Arc<Node>,
    namespace: &Namespace,
    attributes: Option<&mut SearchAttributes>,
) -> Result<(), CallError> {
    let Some(attributes) = attributes.filter(|attributes| !attributes.indexed_fields.is_empty()) else { return Ok(()) };
    let known = known(node, namespace, attributes).await?;
    check_against(&namespace.name, &known, Some(attributes)).map_err(|why| Rejection::invalid(why).into())
}

/// What a start may set: checked, of a size that may be stored, and without the fields that say there is nothing, of the memo too.
pub async fn check_start(
    node: &Arc<Node>,
    namespace: &Namespace,
    attributes: &mut Option<SearchAttributes>,
    memo: &mut Option<Memo>,
) -> Result<(), CallError> {
    check(node, namespace, attributes.as_mut()).await?;
    check_sizes(attributes.as_ref()).map_err(Rejection::invalid)?;
    absent::drop_from_attributes(attributes);
    absent::drop_from_memo(memo);
    Ok(())
}

/// Leaves out what descriptions do not show: a value whose attribute was removed stays in its run's history only.
pub async fn retain_known(
    node: &Arc<Node>,
    namespace: &Namespace,
    attributes: Option<&mut SearchAttributes>,
) -> Result<(), CallError> {
    let Some(attributes) = attributes else { return Ok(()) };
    let known = known(node, namespace, attributes).await?;
    attributes.indexed_fields.retain(|name, _| known.contains_key(name) || everywhere(name).is_some());
    Ok(())
}

/// The namespace's own attributes, up to date if one of those given is not among them.
pub async fn known(
    node: &Arc<Node>,
    namespace: &Namespace,
    given: &SearchAttributes,
) -> Result<BTreeMap<String, i32>, CallError> {
    let known = custom(node, namespace);
    let is_known = |name: &String| known.contains_key(name) || everywhere(name).is_some();
    if given.indexed_fields.keys().all(is_known) {
        return Ok(known);
    }
    // It may have been added on another node a moment ago.
    node.meta.refresh(node).await?;
    Ok(custom(node, namespace))
}

/// The namespace's own attributes.
pub fn custom(node: &Node, namespace: &Namespace) -> BTreeMap<String, i32> {
    let view = node.meta.view();
    view.namespace(&namespace.name).map(|found| found.search_attributes.clone()).unwrap_or_default()
}
