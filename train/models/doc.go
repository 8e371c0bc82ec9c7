// Package models runs pretrained models with low-rank adapters on them: losses with
// gradients for the adapter's factors, logits, and generation.
//
// # How to choose
//
// [Load] builds the model that a checkpoint's config.json describes; the result is a
// [Model] whatever the architecture. [Model.Attach] puts finished adapters on it,
// [Model.Train] the one whose factors [Model.LossGrad] differentiates. [Generate]
// writes text tokens with a key-value cache. Optimizers, schedules and data are in
// package train.
//
// [LoadClassifier] builds a model that gives classes or numbers for whole texts, with the
// checkpoint's head or a new one, which is trained whole and saved through modules_to_save.
// [LoadEmbedder] builds one that gives sentence embeddings, as a sentence-transformers
// directory says ([ReadSentenceConfig]). All are [Adaptable]: the loop of package train
// trains any of them, and package score measures what they give.
//
// Encoders are BERT, which MiniLM is too, RoBERTa and DistilBERT; classifiers can be made
// of GPT-2 as well. Decoders are GPT-2, Llama, Mistral, Qwen2, Qwen3, Gemma 2 and 3 (text)
// and Phi-3, each with the options of its config class: sliding windows, biases, soft caps,
// tied heads, an adapter on a fused layer as PEFT puts it there, and positions scaled by
// "linear", "dynamic", "llama3", "yarn" and "longrope". Configs are read as transformers 5
// writes them and as older versions did.
//
// # What is promised
//
// A model computes what transformers computes in float32 for the same files, within
// float32's rounding; whatever a config asks for beyond that is refused by name before a
// weight is read, and so are weights that the model has no place for. Base weights are
// frozen: they never get a gradient. Results are the same bits for every GOMAXPROCS
// (see package autodiff for the conditions). Module paths are those that PEFT sees in
// memory, such as "model.layers.0.self_attn.q_proj" and "lm_head", whatever prefix the
// checkpoint's names have.
//
// In two things that depends on more than the files. Gemma's embeddings are multiplied by
// √hidden, which a run in BF16 rounds to BF16. And under "dynamic" and "longrope" a sequence
// turns by its own length here, whatever it shares a batch with and whatever ran before,
// where transformers goes by the padded batch and remembers the longest one.
//
// A model and its sessions belong to one goroutine at a time.
package models
