"""The permission that a call needs, where a test may withhold it."""

PERMISSION_OF = {
    "PipelineService.CreatePipelineJob": "aiplatform.pipelineJobs.create",
    "PipelineService.GetPipelineJob": "aiplatform.pipelineJobs.get",
    "PipelineService.ListPipelineJobs": "aiplatform.pipelineJobs.list",
    "PipelineService.CancelPipelineJob": "aiplatform.pipelineJobs.cancel",
    "PipelineService.DeletePipelineJob": "aiplatform.pipelineJobs.delete",
    "ScheduleService.CreateSchedule": "aiplatform.schedules.create",
    "ScheduleService.GetSchedule": "aiplatform.schedules.get",
    "ScheduleService.ListSchedules": "aiplatform.schedules.list",
    "ScheduleService.UpdateSchedule": "aiplatform.schedules.update",
    "ScheduleService.PauseSchedule": "aiplatform.schedules.update",
    "ScheduleService.ResumeSchedule": "aiplatform.schedules.update",
    "ScheduleService.DeleteSchedule": "aiplatform.schedules.delete",
    "storage.buckets.get": "storage.buckets.get",
    "storage.objects.get": "storage.objects.get",
    "storage.objects.list": "storage.objects.list",
    "storage.objects.insert": "storage.objects.create",
    "storage.objects.compose": "storage.objects.create",
    "storage.objects.copy": "storage.objects.create",
    "storage.objects.patch": "storage.objects.update",
    "storage.objects.update": "storage.objects.update",
    "storage.objects.delete": "storage.objects.delete",
    "serviceusage.services.get": "serviceusage.services.get",
    "cloudresourcemanager.projects.get": "resourcemanager.projects.get",
    "docker.manifests.get": "artifactregistry.repositories.downloadArtifacts",
}
"""By the recorded name of the call."""
