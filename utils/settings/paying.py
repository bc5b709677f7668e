"""The settings of return decompositions: fields of `utils.settings.fields.Config`, which has them after its own."""

from __future__ import annotations

from dataclasses import dataclass

from utils.settings.setting import of_algorithm


@dataclass(frozen=True)
class PayingSettings:
    """What a decomposition reads, by name. None: not read by the chosen one."""

    fit_updates: int | None = of_algorithm(
        "updates of a decomposition in a burst, and over ppo and a2c before it pays a rollout (default: as many as of "
        "the agent)", low=1)
    r_lr: float | None = of_algorithm("learning rate of the reward network", above=0)
    rrd_batch_size: int | None = of_algorithm("steps per update of the reward network", low=1, high=1_000_000)
    rrd_sample_size: int | None = of_algorithm("steps drawn from one episode (K)", low=1, high=1_000_000)
    rrd_bias_correction: bool | None = of_algorithm("subtract the variance term: RRD-L(RD)")
    fit_every: int | None = of_algorithm("environment steps from one burst of updates of a decomposition to the next; "
                                         "0: it learns in each update of the agent", low=0)
    fit_episodes: int | None = of_algorithm("whole episodes in a batch of a decomposition", low=1, high=100_000)
    credit_steps: int | None = of_algorithm("stored steps that are paid anew after a burst, at most, the oldest "
                                            "payments first; new episodes are always paid", low=0)
    return_scale: float | None = of_algorithm("what returns are divided by before a decomposition fits them, and its "
                                              "payments multiplied by; 0: their standard deviation so far", low=0)
    estimator: str | None = of_algorithm("what the sum of an episode's rewards is estimated from: all of its steps, or "
                                         "K drawn ones, as in rrd", choices=("all", "drawn"))
    variance_penalty: float | None = of_algorithm("weight of the variance that K drawn steps would have: 0 none, as in "
                                                  "RRD-L(RD); 1 as in RRD", low=0)
    target: str | None = of_algorithm("what the loss compares: mean (the error over the length) or return (the error "
                                      "as it is, so that long episodes weigh more)", choices=("mean", "return"))
    likelihood: str | None = of_algorithm("of returns: gaussian (squared error) or bernoulli (returns are 0 or 1, the "
                                          "sum of the rewards is a logit)", choices=("gaussian", "bernoulli"))
    outcome_credit: str | None = of_algorithm(
        "what a step is paid: reward (as predicted), probability (by how much the predicted probability of success "
        "rises) or residual (so that an episode is paid its return)", choices=("reward", "probability", "residual"))
    feature_fn: str | None = of_algorithm(
        "module:function of tensors (.., O), (.., A), (.., O) that returns features (.., D), which the reward network "
        "reads instead (default: none)")
    sigma_floor: float | None = of_algorithm("least std of a step's reward, over return_scale", above=0)
    detach: bool | None = of_algorithm("hold the rewards of the other steps constant in a step's gradient")
    kernel: str | None = of_algorithm("covariance of the rewards of two steps: rbf, matern (3/2) or rq (rational "
                                      "quadratic)", choices=("rbf", "matern", "rq"))
    latent_size: int | None = of_algorithm("numbers of the code of a step", low=1, high=100_000)
    kl_weight: float | None = of_algorithm("weight of the code's KL divergence from a standard normal", low=0)
    cell: str | None = of_algorithm("recurrent cell: rudder (no forget and output gates), lstm or gru",
                                    choices=("rudder", "lstm", "gru"))
    cell_size: int | None = of_algorithm("units of the recurrent cell", low=1, high=100_000)
    aux_weight: float | None = of_algorithm("weight of the error of the predictions before the last one", low=0)
    quality_floor: float | None = of_algorithm("R2 of the predicted return below which every step is paid the mean "
                                               "reward; 0: never", low=0, high=1)
    lesson_size: int | None = of_algorithm("episodes that a recurrent model learns from: those of large error, or of "
                                           "an unusual return; 0: all that the replay holds, by length", low=0)
    lesson_start: int | None = of_algorithm("episodes, of returns that differ, before a recurrent model learns", low=0)
    lesson_goal: float | None = of_algorithm("running error of the predicted return, over return_scale and squared, "
                                             "below which a burst ends; 0: never", low=0)
    cut_noise: bool | None = of_algorithm("draw the outputs of the recurrent network; False: take their means")
    attention_size: int | None = of_algorithm("width of the attention", low=1, high=100_000)
    attention_layers: int | None = of_algorithm("blocks of causal attention", low=1, high=1000)
    attention_window: int | None = of_algorithm("steps that a step's payment is read from, its own and those before "
                                                "it, at most", low=1)
    attention_weights: str | None = of_algorithm(
        "how a step's reward follows from attention: rbt (attention over values) or codetr (weight times value)",
        choices=("rbt", "codetr"))
    state_weight: float | None = of_algorithm("weight of the error of the predicted next state", low=0)
    readout_size: int | None = of_algorithm("width of the layer before the predicted return", low=1, high=100_000)
    mask_temperature: float | None = of_algorithm("temperature of the drawn masks", above=0)
    mask_policy: bool | None = of_algorithm("show policy and critics only the dimensions that lead to the reward "
                                            "through likely edges")
    sparse_s_r: float | None = of_algorithm("weight of edges from state to reward", low=0)
    sparse_a_r: float | None = of_algorithm("weight of edges from action to reward", low=0)
    sparse_s_s: float | None = of_algorithm("weight of edges from state to another dimension of the next one", low=0)
    sparse_s_s_diagonal: float | None = of_algorithm("weight of edges from state to the same dimension of the next one",
                                                     low=0)
    sparse_a_s: float | None = of_algorithm("weight of edges from action to next state", low=0)
