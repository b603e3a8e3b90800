//! The tables of both services: which method is served by which handler. Everything else answers UNIMPLEMENTED by its name.
//!
//! A method stands in exactly one of the two lists of its service; the compiler refuses a missing or a doubled one. What the server says
//! of itself, its capabilities and `docs/compatibility.md`, is read off the same lists (`coverage`).

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::coverage::Service;
use super::{
    batch, cluster, namespace, operator, query, routed, schedules, standalone_activity, task_queue, visibility, waiting,
};
use crate::context::Context;
use crate::metrics::Meter;
use crate::node::Node;
use crate::status::unserved;

/// Both services, over one node.
#[derive(Clone)]
pub struct Frontend {
    pub node: Arc<Node>,
}

macro_rules! service {
    (
        $service:path, $package:path, $coverage:ident;
        served { $($method:ident: $request:ident => $response:ident as $handler:path;)* }
        unserved { $($missing:ident: $missing_request:ident => $missing_response:ident;)* }
    ) => {
        pub(super) const $coverage: Service = Service {
            served: &[$(stringify!($request)),*],
            unserved: &[$(stringify!($missing_request)),*],
        };

        const _: () = {
            use $package as api;

            #[tonic::async_trait]
            impl $service for Frontend {
                $(
                    async fn $method(
                        &self,
                        request: Request<api::$request>,
                    ) -> Result<Response<api::$response>, Status> {
                        static METER: Meter = Meter::new(stringify!($request));
                        let context = Context::of(request.metadata());
                        let call = $handler(self.node.clone(), request.into_inner(), context);
                        METER.measure(call).await.map(Response::new)
                    }
                )*
                $(
                    async fn $missing(
                        &self,
                        _request: Request<api::$missing_request>,
                    ) -> Result<Response<api::$missing_response>, Status> {
                        static METER: Meter = Meter::new(stringify!($missing_request));
                        METER.measure(async { Err(unserved(METER.method())) }).await
                    }
                )*
            }
        };
    };
}

service! {
    stanchion_proto::temporal::workflowservice::v1::workflow_service_server::WorkflowService, stanchion_proto::temporal::workflowservice::v1, WORKFLOW_SERVICE;
    served {
        register_namespace: RegisterNamespaceRequest => RegisterNamespaceResponse as namespace::register_namespace;
        describe_namespace: DescribeNamespaceRequest => DescribeNamespaceResponse as namespace::describe_namespace;
        list_namespaces: ListNamespacesRequest => ListNamespacesResponse as namespace::list_namespaces;
        deprecate_namespace: DeprecateNamespaceRequest => DeprecateNamespaceResponse as namespace::deprecate_namespace;
        update_namespace: UpdateNamespaceRequest => UpdateNamespaceResponse as namespace::update_namespace;
        start_workflow_execution: StartWorkflowExecutionRequest => StartWorkflowExecutionResponse as routed;
        get_workflow_execution_history: GetWorkflowExecutionHistoryRequest => GetWorkflowExecutionHistoryResponse as waiting;
        get_workflow_execution_history_reverse: GetWorkflowExecutionHistoryReverseRequest => GetWorkflowExecutionHistoryReverseResponse as waiting;
        poll_workflow_task_queue: PollWorkflowTaskQueueRequest => PollWorkflowTaskQueueResponse as task_queue::poll_workflow_task_queue;
        respond_workflow_task_completed: RespondWorkflowTaskCompletedRequest => RespondWorkflowTaskCompletedResponse as routed;
        respond_workflow_task_failed: RespondWorkflowTaskFailedRequest => RespondWorkflowTaskFailedResponse as routed;
        poll_activity_task_queue: PollActivityTaskQueueRequest => PollActivityTaskQueueResponse as task_queue::poll_activity_task_queue;
        record_activity_task_heartbeat: RecordActivityTaskHeartbeatRequest => RecordActivityTaskHeartbeatResponse as routed;
        record_activity_task_heartbeat_by_id: RecordActivityTaskHeartbeatByIdRequest => RecordActivityTaskHeartbeatByIdResponse as routed;
        respond_activity_task_completed: RespondActivityTaskCompletedRequest => RespondActivityTaskCompletedResponse as routed;
        respond_activity_task_completed_by_id: RespondActivityTaskCompletedByIdRequest => RespondActivityTaskCompletedByIdResponse as routed;
        respond_activity_task_failed: RespondActivityTaskFailedRequest => RespondActivityTaskFailedResponse as routed;
        respond_activity_task_failed_by_id: RespondActivityTaskFailedByIdRequest => RespondActivityTaskFailedByIdResponse as routed;
        respond_activity_task_canceled: RespondActivityTaskCanceledRequest => RespondActivityTaskCanceledResponse as routed;
        respond_activity_task_canceled_by_id: RespondActivityTaskCanceledByIdRequest => RespondActivityTaskCanceledByIdResponse as routed;
        pause_activity: PauseActivityRequest => PauseActivityResponse as routed;
        unpause_activity: UnpauseActivityRequest => UnpauseActivityResponse as routed;
        reset_activity: ResetActivityRequest => ResetActivityResponse as routed;
        update_activity_options: UpdateActivityOptionsRequest => UpdateActivityOptionsResponse as routed;
        pause_activity_execution: PauseActivityExecutionRequest => PauseActivityExecutionResponse as routed;
        unpause_activity_execution: UnpauseActivityExecutionRequest => UnpauseActivityExecutionResponse as routed;
        reset_activity_execution: ResetActivityExecutionRequest => ResetActivityExecutionResponse as routed;
        update_activity_execution_options: UpdateActivityExecutionOptionsRequest => UpdateActivityExecutionOptionsResponse as routed;
        start_activity_execution: StartActivityExecutionRequest => StartActivityExecutionResponse as routed;
        describe_activity_execution: DescribeActivityExecutionRequest => DescribeActivityExecutionResponse as waiting;
        count_activity_executions: CountActivityExecutionsRequest => CountActivityExecutionsResponse as standalone_activity::count_activity_executions;
        list_activity_executions: ListActivityExecutionsRequest => ListActivityExecutionsResponse as standalone_activity::list_activity_executions;
        poll_activity_execution: PollActivityExecutionRequest => PollActivityExecutionResponse as waiting;
        request_cancel_activity_execution: RequestCancelActivityExecutionRequest => RequestCancelActivityExecutionResponse as routed;
        terminate_activity_execution: TerminateActivityExecutionRequest => TerminateActivityExecutionResponse as routed;
        delete_activity_execution: DeleteActivityExecutionRequest => DeleteActivityExecutionResponse as routed;
        request_cancel_workflow_execution: RequestCancelWorkflowExecutionRequest => RequestCancelWorkflowExecutionResponse as routed;
        signal_workflow_execution: SignalWorkflowExecutionRequest => SignalWorkflowExecutionResponse as routed;
        signal_with_start_workflow_execution: SignalWithStartWorkflowExecutionRequest => SignalWithStartWorkflowExecutionResponse as routed;
        reset_workflow_execution: ResetWorkflowExecutionRequest => ResetWorkflowExecutionResponse as routed;
        update_workflow_execution_options: UpdateWorkflowExecutionOptionsRequest => UpdateWorkflowExecutionOptionsResponse as routed;
        delete_workflow_execution: DeleteWorkflowExecutionRequest => DeleteWorkflowExecutionResponse as routed;
        terminate_workflow_execution: TerminateWorkflowExecutionRequest => TerminateWorkflowExecutionResponse as routed;
        respond_query_task_completed: RespondQueryTaskCompletedRequest => RespondQueryTaskCompletedResponse as query::respond_query_task_completed;
        reset_sticky_task_queue: ResetStickyTaskQueueRequest => ResetStickyTaskQueueResponse as routed;
        shutdown_worker: ShutdownWorkerRequest => ShutdownWorkerResponse as task_queue::shutdown_worker;
        query_workflow: QueryWorkflowRequest => QueryWorkflowResponse as waiting;
        update_workflow_execution: UpdateWorkflowExecutionRequest => UpdateWorkflowExecutionResponse as routed;
        poll_workflow_execution_update: PollWorkflowExecutionUpdateRequest => PollWorkflowExecutionUpdateResponse as routed;
        execute_multi_operation: ExecuteMultiOperationRequest => ExecuteMultiOperationResponse as routed;
        describe_workflow_execution: DescribeWorkflowExecutionRequest => DescribeWorkflowExecutionResponse as routed;
        describe_task_queue: DescribeTaskQueueRequest => DescribeTaskQueueResponse as task_queue::describe_task_queue;
        get_cluster_info: GetClusterInfoRequest => GetClusterInfoResponse as cluster::get_cluster_info;
        get_system_info: GetSystemInfoRequest => GetSystemInfoResponse as cluster::get_system_info;
        list_open_workflow_executions: ListOpenWorkflowExecutionsRequest => ListOpenWorkflowExecutionsResponse as visibility::list_open_workflow_executions;
        list_closed_workflow_executions: ListClosedWorkflowExecutionsRequest => ListClosedWorkflowExecutionsResponse as visibility::list_closed_workflow_executions;
        list_workflow_executions: ListWorkflowExecutionsRequest => ListWorkflowExecutionsResponse as visibility::list_workflow_executions;
        list_archived_workflow_executions: ListArchivedWorkflowExecutionsRequest => ListArchivedWorkflowExecutionsResponse as visibility::list_archived_workflow_executions;
        scan_workflow_executions: ScanWorkflowExecutionsRequest => ScanWorkflowExecutionsResponse as visibility::scan_workflow_executions;
        count_workflow_executions: CountWorkflowExecutionsRequest => CountWorkflowExecutionsResponse as visibility::count_workflow_executions;
        get_search_attributes: GetSearchAttributesRequest => GetSearchAttributesResponse as visibility::get_search_attributes;
        start_batch_operation: StartBatchOperationRequest => StartBatchOperationResponse as routed;
        stop_batch_operation: StopBatchOperationRequest => StopBatchOperationResponse as routed;
        describe_batch_operation: DescribeBatchOperationRequest => DescribeBatchOperationResponse as routed;
        list_batch_operations: ListBatchOperationsRequest => ListBatchOperationsResponse as batch::list_batch_operations;
        record_worker_heartbeat: RecordWorkerHeartbeatRequest => RecordWorkerHeartbeatResponse as task_queue::record_worker_heartbeat;
        create_schedule: CreateScheduleRequest => CreateScheduleResponse as routed;
        describe_schedule: DescribeScheduleRequest => DescribeScheduleResponse as routed;
        update_schedule: UpdateScheduleRequest => UpdateScheduleResponse as routed;
        patch_schedule: PatchScheduleRequest => PatchScheduleResponse as routed;
        list_schedule_matching_times: ListScheduleMatchingTimesRequest => ListScheduleMatchingTimesResponse as routed;
        delete_schedule: DeleteScheduleRequest => DeleteScheduleResponse as routed;
        list_schedules: ListSchedulesRequest => ListSchedulesResponse as schedules::list_schedules;
        count_schedules: CountSchedulesRequest => CountSchedulesResponse as schedules::count_schedules;
    }
    unserved {
        validate_worker_deployment_version_compute_config: ValidateWorkerDeploymentVersionComputeConfigRequest => ValidateWorkerDeploymentVersionComputeConfigResponse;
        update_worker_deployment_version_compute_config: UpdateWorkerDeploymentVersionComputeConfigRequest => UpdateWorkerDeploymentVersionComputeConfigResponse;
        list_task_queue_partitions: ListTaskQueuePartitionsRequest => ListTaskQueuePartitionsResponse;
        update_worker_build_id_compatibility: UpdateWorkerBuildIdCompatibilityRequest => UpdateWorkerBuildIdCompatibilityResponse;
        get_worker_build_id_compatibility: GetWorkerBuildIdCompatibilityRequest => GetWorkerBuildIdCompatibilityResponse;
        update_worker_versioning_rules: UpdateWorkerVersioningRulesRequest => UpdateWorkerVersioningRulesResponse;
        get_worker_versioning_rules: GetWorkerVersioningRulesRequest => GetWorkerVersioningRulesResponse;
        get_worker_task_reachability: GetWorkerTaskReachabilityRequest => GetWorkerTaskReachabilityResponse;
        describe_deployment: DescribeDeploymentRequest => DescribeDeploymentResponse;
        describe_worker_deployment_version: DescribeWorkerDeploymentVersionRequest => DescribeWorkerDeploymentVersionResponse;
        list_deployments: ListDeploymentsRequest => ListDeploymentsResponse;
        get_deployment_reachability: GetDeploymentReachabilityRequest => GetDeploymentReachabilityResponse;
        get_current_deployment: GetCurrentDeploymentRequest => GetCurrentDeploymentResponse;
        set_current_deployment: SetCurrentDeploymentRequest => SetCurrentDeploymentResponse;
        set_worker_deployment_current_version: SetWorkerDeploymentCurrentVersionRequest => SetWorkerDeploymentCurrentVersionResponse;
        describe_worker_deployment: DescribeWorkerDeploymentRequest => DescribeWorkerDeploymentResponse;
        delete_worker_deployment: DeleteWorkerDeploymentRequest => DeleteWorkerDeploymentResponse;
        delete_worker_deployment_version: DeleteWorkerDeploymentVersionRequest => DeleteWorkerDeploymentVersionResponse;
        set_worker_deployment_ramping_version: SetWorkerDeploymentRampingVersionRequest => SetWorkerDeploymentRampingVersionResponse;
        list_worker_deployments: ListWorkerDeploymentsRequest => ListWorkerDeploymentsResponse;
        create_worker_deployment: CreateWorkerDeploymentRequest => CreateWorkerDeploymentResponse;
        create_worker_deployment_version: CreateWorkerDeploymentVersionRequest => CreateWorkerDeploymentVersionResponse;
        update_worker_deployment_version_metadata: UpdateWorkerDeploymentVersionMetadataRequest => UpdateWorkerDeploymentVersionMetadataResponse;
        set_worker_deployment_manager: SetWorkerDeploymentManagerRequest => SetWorkerDeploymentManagerResponse;
        poll_nexus_task_queue: PollNexusTaskQueueRequest => PollNexusTaskQueueResponse;
        respond_nexus_task_completed: RespondNexusTaskCompletedRequest => RespondNexusTaskCompletedResponse;
        respond_nexus_task_failed: RespondNexusTaskFailedRequest => RespondNexusTaskFailedResponse;
        create_workflow_rule: CreateWorkflowRuleRequest => CreateWorkflowRuleResponse;
        describe_workflow_rule: DescribeWorkflowRuleRequest => DescribeWorkflowRuleResponse;
        delete_workflow_rule: DeleteWorkflowRuleRequest => DeleteWorkflowRuleResponse;
        list_workflow_rules: ListWorkflowRulesRequest => ListWorkflowRulesResponse;
        trigger_workflow_rule: TriggerWorkflowRuleRequest => TriggerWorkflowRuleResponse;
        list_workers: ListWorkersRequest => ListWorkersResponse;
        count_workers: CountWorkersRequest => CountWorkersResponse;
        update_task_queue_config: UpdateTaskQueueConfigRequest => UpdateTaskQueueConfigResponse;
        fetch_worker_config: FetchWorkerConfigRequest => FetchWorkerConfigResponse;
        update_worker_config: UpdateWorkerConfigRequest => UpdateWorkerConfigResponse;
        describe_worker: DescribeWorkerRequest => DescribeWorkerResponse;
        pause_workflow_execution: PauseWorkflowExecutionRequest => PauseWorkflowExecutionResponse;
        unpause_workflow_execution: UnpauseWorkflowExecutionRequest => UnpauseWorkflowExecutionResponse;
        start_nexus_operation_execution: StartNexusOperationExecutionRequest => StartNexusOperationExecutionResponse;
        describe_nexus_operation_execution: DescribeNexusOperationExecutionRequest => DescribeNexusOperationExecutionResponse;
        poll_nexus_operation_execution: PollNexusOperationExecutionRequest => PollNexusOperationExecutionResponse;
        list_nexus_operation_executions: ListNexusOperationExecutionsRequest => ListNexusOperationExecutionsResponse;
        count_nexus_operation_executions: CountNexusOperationExecutionsRequest => CountNexusOperationExecutionsResponse;
        request_cancel_nexus_operation_execution: RequestCancelNexusOperationExecutionRequest => RequestCancelNexusOperationExecutionResponse;
        terminate_nexus_operation_execution: TerminateNexusOperationExecutionRequest => TerminateNexusOperationExecutionResponse;
        delete_nexus_operation_execution: DeleteNexusOperationExecutionRequest => DeleteNexusOperationExecutionResponse;
        poll_workflow_execution_time_skipping: PollWorkflowExecutionTimeSkippingRequest => PollWorkflowExecutionTimeSkippingResponse;
    }
}

service! {
    stanchion_proto::temporal::operatorservice::v1::operator_service_server::OperatorService, stanchion_proto::temporal::operatorservice::v1, OPERATOR_SERVICE;
    served {
        add_search_attributes: AddSearchAttributesRequest => AddSearchAttributesResponse as operator::add_search_attributes;
        remove_search_attributes: RemoveSearchAttributesRequest => RemoveSearchAttributesResponse as operator::remove_search_attributes;
        list_search_attributes: ListSearchAttributesRequest => ListSearchAttributesResponse as operator::list_search_attributes;
        list_clusters: ListClustersRequest => ListClustersResponse as operator::list_clusters;
    }
    unserved {
        delete_namespace: DeleteNamespaceRequest => DeleteNamespaceResponse;
        add_or_update_remote_cluster: AddOrUpdateRemoteClusterRequest => AddOrUpdateRemoteClusterResponse;
        remove_remote_cluster: RemoveRemoteClusterRequest => RemoveRemoteClusterResponse;
        get_nexus_endpoint: GetNexusEndpointRequest => GetNexusEndpointResponse;
        create_nexus_endpoint: CreateNexusEndpointRequest => CreateNexusEndpointResponse;
        update_nexus_endpoint: UpdateNexusEndpointRequest => UpdateNexusEndpointResponse;
        delete_nexus_endpoint: DeleteNexusEndpointRequest => DeleteNexusEndpointResponse;
        list_nexus_endpoints: ListNexusEndpointsRequest => ListNexusEndpointsResponse;
    }
}
