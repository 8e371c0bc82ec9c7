// Package train is the training loop: optimizer, schedule, clipping, evaluation,
// metrics and the loss curve.
//
// It is for fitting the few parameters that a model marks as trainable, which for
// graft are the factors of an adapter. What the model is does not matter here: it
// shows its parameters and adds gradients to them ([Model]), and batches come from
// a [Source].
//
// # Choosing
//
// [Run] does everything a training command needs; [Options] has PEFT's and
// Hugging Face's words and their defaults are in [DefaultOptions]. Use [AdamW], [SGD],
// [Schedule] and [ClipGradNorm] alone only to write another loop. [Evaluate] is the
// loss of a model on a source without training.
//
// A run reports through [Events]: progress for a terminal, [Point]s for
// metrics.jsonl ([MetricsWriter]), for trainer_state.json ([TrainerState]) and for
// the loss curve ([Curve]), and [Snapshot]s to save and to go on from.
//
// # Promises
//
// The arithmetic is that of torch.optim.AdamW and SGD, of PEFT's LoRA+, of the schedules and of the token
// mean (num_items_in_batch) of Hugging Face's Trainer since version 4.46, and golden
// numbers from both are part of the tests.
//
// With the same model, data, options and seed a run gives the same bits at any
// GOMAXPROCS, as long as the model does, on machines of one architecture. A run that
// is stopped and resumed from a snapshot gives the bits of one that never stopped.
//
// A loss or a gradient that is not finite stops the run before it reaches the
// parameters ([ErrDiverged]).
package train
