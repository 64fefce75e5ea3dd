"""What ``kubectl explain`` says about each field of our kinds, by model and field.

A field that is a model of its own needs no entry: the model's docstring speaks for it. A test holds
that nothing else is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_STATUS: Final = {
    "observedGeneration": "The metadata.generation that this status is about.",
    "phase": "Where it stands, in one word for people; the conditions say more.",
    "reason": "Why it stands there, in one CamelCase word.",
    "message": "Why it stands there, in a sentence.",
    "conditions": "What is true of it, one entry for each type.",
    "startTime": "When it began.",
    "completionTime": "When it ended for good.",
}
_RUN_STATUS: Final = {
    **_STATUS,
    "mode": "The mode that auto became.",
    "workers": "Workers that take part now.",
    "restarts": "Restarts that counted against failure.maxRestarts.",
}
_SUSPEND: Final = "Save the state and give everything back; false goes on where it was left."
_MANAGED_BY: Final = "Which operator takes care of it."

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "DatasetRef": {
        "name": "Name of the dataset in this project.",
        "version": "Number of the version; versions never change.",
        "split": "Name of the split; left out: the one of the version.",
        "train": "Part of the split to train on.",
        "evaluate": "Part of the split to evaluate on.",
        "sources": "Train only on labels from these sources, as human or auto; empty: all.",
        "minConfidence": "Train only on labels that are at least as sure, from 0 to 1.",
    },
    "Builtin": {"task": "What the model does.", "model": "Name of the model."},
    "Functions": {
        "bundle": "SHA-256 of the code bundle that the SDK stored.",
        "task": "What the functions do.",
    },
    "Script": {
        "bundle": "SHA-256 of the code bundle that the SDK stored.",
        "entry": "Path of the script in the bundle.",
        "args": "Arguments of the script.",
        "elastic": "It keeps its state by hvd.elastic or quintile.checkpoint, so that the number "
        "of workers may change.",
    },
    "LabelingRound": {
        "job": "Name of the LabelingJob.",
        "jobUid": "Uid of the LabelingJob.",
        "number": "Number of the round, from 0.",
        "step": "What the round computes: embed, learn or finalise.",
        "manifestKey": "Where the input of the round lies in the object store.",
        "manifestSha256": "SHA-256 of that input.",
    },
    "EstimatorSpec": {"env": "Environment variables for the ranks."},
    "EnvVar": {
        "name": "Name; QUINTILE_, HOROVOD_, PET_, OMPI_ and TF_CONFIG are reserved.",
        "value": "Value; it is stored in the open, so put no secrets here.",
    },
    "Parameter": {
        "name": "Name of the hyperparameter.",
        "value": "Value as text; the program gives it a type.",
    },
    "Workers": {
        "replicas": "How many workers; of an elastic run it may change between min and max.",
        "min": "The run goes on with fewer workers, but not fewer than this.",
        "max": "The most workers that may be asked for while it runs.",
    },
    "ParameterServers": {
        "replicas": "How many parameter servers; at least 1 in mode ps.",
        "consistency": "How pushes of workers are ordered: sync, ssp or async.",
        "staleness": "How many pushes a worker may be ahead of the slowest one (ssp only).",
    },
    "HorovodSpec": {"controller": "How ranks find each other: gloo, or mpi under Open MPI."},
    "Resources": {
        "cpu": "Cores of one worker, as 500m or 4.",
        "memory": "Memory of one worker, as 2Gi.",
        "gpu": "GPUs of one worker; useGpu alone means 1.",
    },
    "RunSpec": {
        "mode": "How ranks work together; auto: single for one worker, else ddp.",
        "comm": "How gradients travel in mode ddp: gloo (TCP), shm (memory of one host), auto.",
        "useGpu": "Whether ranks compute on GPUs.",
        "runEval": "Whether to evaluate on the evaluate part of the split.",
        "deterministic": "Same bits for the same seed and number of workers, at some cost.",
    },
    "CheckpointSpec": {
        "everySteps": "How many steps lie between two checkpoints.",
        "keepLast": "How many of the newest checkpoints stay.",
        "keepBest": "How many of the best checkpoints stay.",
        "resume": "Whether a new attempt begins at the newest checkpoint (Auto) or anew (Never).",
        "graceSeconds": "How long ranks that are asked to end may save their state.",
    },
    "TelemetrySpec": {
        "summaryEverySteps": "How many steps lie between two reports of metrics.",
        "progressTimeoutSeconds": "Without a step for so long a rank counts as stalled; 0: never.",
        "startTimeoutSeconds": "The same before the first step; left out: 1800, and a script may "
        "tell no steps; 0: never.",
    },
    "FailureRule": {
        "action": "Restart, RestartUncounted (no limit applies) or Fail.",
        "exitCodes": "The rule fits when the rank ended with one of these.",
        "logPattern": "The rule fits when a late line on stderr has this text; * is any text.",
    },
    "FailureSpec": {
        "maxRestarts": "How often a trial may begin a new attempt before it fails.",
        "maxInPlaceRestarts": "How often ranks of one attempt may be restarted in their pods.",
    },
    "ExperimentSpec": {
        "description": "What it is for, in your words.",
        "queue": "Queue whose quota the trial counts against; left out: the project's default, if "
        "there is one.",
        "priority": "Word of that queue for how soon the trial goes.",
        "runtime": "ClusterRuntime that gives image, nodes and defaults of the pods; left out: the "
        "default, if there is one.",
        "image": "Image of the pods, where the runtime says allowImage.",
        "activeDeadlineSeconds": "Fail a trial that runs longer than this.",
        "suspend": _SUSPEND,
        "managedBy": _MANAGED_BY,
    },
    "SecretRef": {
        "name": "Name of the Secret; its label quintile.dev/use says workers.",
        "mountPath": "Its keys are files in this folder; left out: environment variables.",
    },
    "Label": {"name": "Name of the label.", "value": "Value of the label."},
    "Annotation": {"name": "Name of the annotation.", "value": "Value of the annotation."},
    "EmptyDir": {"sizeLimit": "The most that it may hold, as 20Gi."},
    "VolumeClaim": {
        "claimName": "Name of the PersistentVolumeClaim.",
        "readOnly": "Whether pods only read it.",
    },
    "Volume": {"name": "What volumeMounts call it."},
    "VolumeMount": {
        "name": "Name of the volume.",
        "mountPath": "Folder in /data, /mnt, /secrets, /srv or /workspace.",
        "readOnly": "Whether ranks only read it.",
    },
    "PullSecret": {"name": "Name of the Secret."},
    "AllowedOverrides": {
        "labels": "Names of labels that Experiments may set.",
        "annotations": "Names of annotations that Experiments may set.",
        "emptyDirs": "Whether Experiments may add volumes of kind emptyDir.",
        "volumeClaims": "Names of PersistentVolumeClaims that Experiments may mount.",
        "imagePullSecrets": "Names of Secrets that Experiments may pull their image with.",
    },
    "TrialSpec": {
        "experiment": "Name of the Experiment that the trial belongs to.",
        "experimentUid": "Uid of that Experiment.",
        "number": "Number of the trial in its Experiment, from 0.",
        "batchWorkers": "Number of workers that the size of a batch is meant for.",
    },
    "Condition": {
        "type": "What the entry is about.",
        "status": "True, False or Unknown.",
        "reason": "Why, in one CamelCase word.",
        "message": "Why, in a sentence.",
        "lastTransitionTime": "When status last changed.",
        "observedGeneration": "The metadata.generation that this entry is about.",
    },
    "Progress": {
        "percent": "How far the run is.",
        "step": "Steps done.",
        "totalSteps": "Steps in all.",
        "etaSeconds": "Seconds that are probably left.",
        "updatedTime": "When the ranks reported this.",
    },
    "LastFailure": {
        "role": "Role of the rank that failed first.",
        "rank": "Number of that rank; -1: none in particular.",
        "exitCode": "How it ended; 128 and more: by that signal.",
        "reason": "Why, in one CamelCase word.",
        "message": "Its first error.",
        "time": "When it was seen.",
    },
    "CheckpointRef": {
        "key": "Where its manifest lies in the object store.",
        "step": "Steps done when it was taken.",
        "time": "When it was committed.",
    },
    "ExperimentStatus": {**_RUN_STATUS, "trials": "Names of its trials."},
    "TrialStatus": {
        **_RUN_STATUS,
        "attempt": "Number of the attempt; each one has pods of its own.",
        "generation": "How often ranks of this attempt came together.",
        "inPlaceRestarts": "Restarts of ranks in the pods of this attempt.",
        "runtimeSha256": "SHA-256 of what its ClusterRuntime said when the attempt began.",
        "sampleAccounting": "Whether it is known which samples were learnt (exact or unmanaged).",
    },
    "Source": {
        "name": "Name of the dataset in this project.",
        "version": "Number of the version whose items are labelled.",
    },
    "Target": {
        "error": "How much of the result may be wrong, as 0.02.",
        "confidence": "How sure the certificate must be, as 0.95.",
        "guarantee": "dataset: of all labels; precision: of the machine's labels alone.",
        "mode": "crossfit: random labels train and certify; strict: half of them are sealed.",
        "looks": "When the certificate may look at the answers: at the end only.",
        "random": "Size of the random stratum, as a number or a share; left out: the smallest.",
    },
    "Strategy": {
        "name": "How items are chosen; auto begins with typical and goes on with uncertain ones.",
        "batch": "Items of a round, as a number or a share.",
        "lookahead": "1: people answer on while a round computes; 0: they wait.",
    },
    "Budget": {
        "maxHumanLabels": "How many decisions people are asked for, as a number or a share.",
        "maxRounds": "How many rounds there are at most.",
        "maxChosen": "How many items are chosen at most, random ones apart.",
    },
    "Finish": {
        "uncovered": "Rows beyond the certificate: asked of people, left, or filled uncertified."
    },
    "Review": {
        "overlap": "Share of the items that two people answer.",
        "annotators": "Who may answer; empty: every annotator of the project.",
    },
    "FeatureModel": {"features": "Where features come from; cpu needs no weights."},
    "Output": {"version": "Number of the version that is exported; left out: the next one."},
    "LabelingJobSpec": {
        "task": "What people decide for each item.",
        "labels": "Names of the classes, each once; more can be added at the end.",
        "seed": "Seed of every random choice of the job.",
        "suspend": "Ask for no answers and start no rounds until it is false again.",
        "managedBy": _MANAGED_BY,
    },
    "Counts": {
        "items": "Items of the dataset version.",
        "human": "Items that people labelled.",
        "auto": "Items that the machine labelled.",
        "unlabeled": "Items without a label.",
        "decisions": "Answers that people gave, second opinions included.",
    },
    "LabelingJobStatus": {
        **_STATUS,
        "round": "Number of the newest round.",
        "humanFraction": "Share of the items that people labelled.",
        "coverage": "Share of the items that the certificate covers.",
        "certifiedError": "Bound on the error that the certificate shows.",
        "labelsLeft": "Decisions that the budget leaves.",
        "randomCommitment": "SHA-256 of the random stratum, published before the first answer.",
        "outputVersion": "Number of the exported version.",
        "experiments": "Names of the Experiments that computed its rounds.",
    },
    "Quota": {
        "resource": "What is counted: cpu, memory, gpu or trials.",
        "amount": "How much, as 8, 500m (cpu) or 64Gi (memory).",
    },
    "Priority": {
        "name": "Word that an Experiment names in spec.priority.",
        "value": "A higher value goes first; without a word it is 0.",
    },
    "QueueSpec": {
        "namespaces": "Projects that may use the queue; empty: all.",
        "preemption": "Lower: a trial may take the place of others of lower priority.",
        "maxPendingPerNamespace": "How many trials of a project may wait at one time.",
    },
    "QueueStatus": {
        "observedGeneration": "The metadata.generation that this status is about.",
        "admitted": "Trials that hold a place.",
        "pending": "Trials that wait.",
        "used": "What those that hold a place hold together.",
        "conditions": "What is true of it, one entry for each type.",
    },
    "Toleration": {
        "key": "Key of the taint; empty with operator Exists: every taint.",
        "operator": "Exists, or Equal to value.",
        "value": "Value of the taint (operator Equal).",
        "effect": "Effect of the taint; empty: every effect.",
    },
    "Amounts": {
        "cpu": "Cores of one replica, as 500m or 4.",
        "memory": "Memory of one replica, as 16Gi.",
        "gpu": "GPUs of one replica.",
    },
    "ClusterRuntimeSpec": {
        "image": "Image of the pods, best by digest: name@sha256:...",
        "allowImage": "Whether an Experiment may bring an image of its own (spec.image).",
        "modes": "Modes that may run here; empty: all.",
        "nodeSelector": "Labels of the nodes that pods run on.",
        "shmSize": "Memory behind /dev/shm, as 2Gi.",
        "priorityClass": "PriorityClass of the pods.",
        "gpuResource": "What the device plugin calls a GPU.",
        "description": "What it is for, for those who choose one.",
    },
}
