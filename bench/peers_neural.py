"""Learners with networks to compare with: OpenSpiel's Deep CFR and NFSP, in torch, as its own examples set them up."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from armfold.core import games
from armfold.core.games import Tree
from armfold.shell.openspiel import from_policy
from bench import record
from bench.peers_games import Peer, load, repeat

Law = Callable[[Any], dict[int, float]]  # a state -> probabilities of legal actions, up to a factor

SOURCES = {  # of the settings; those that an example leaves to the class are its defaults
    "deep cfr": "open_spiel/python/examples/deep_cfr_pytorch.py --game_name {}_poker",
    "nfsp": "open_spiel/python/examples/nfsp_{}_pytorch.py",
}
_DEEP_CFR = {
    "policy_network_layers": (64,),
    "advantage_network_layers": (64,),
    "num_traversals": 375,
    "learning_rate": 1e-3,
    "batch_size_advantage": 256,
    "batch_size_strategy": 256,
    "memory_capacity": 100_000,
    "policy_network_train_steps": 2500,
    "advantage_network_train_steps": 375,
    "reinitialize_advantage_networks": True,
}
_NFSP = {
    "hidden_layers_sizes": (128,),
    "replay_buffer_capacity": 200_000,
    "reservoir_buffer_capacity": 2_000_000,
    "anticipatory_param": 0.1,
    "min_buffer_size_to_learn": 1000,
    "batch_size": 128,
    "learn_every": 64,
    "rl_learning_rate": 0.01,
    "sl_learning_rate": 0.01,
    "optimizer_str": "sgd",
    "loss_str": "mse",
    "discount_factor": 1.0,
    "epsilon_start": 0.06,
    "epsilon_end": 0.001,
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "deep cfr": {"kuhn": _DEEP_CFR, "leduc": _DEEP_CFR},
    "nfsp": {
        "kuhn": {**_NFSP, "update_target_network_every": 1000, "epsilon_decay_duration": 3_000_000},
        "leduc": {**_NFSP, "update_target_network_every": 19_200, "epsilon_decay_duration": 20_000_000},
    },
}


def modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    """OpenSpiel's deep_cfr, nfsp and rl_environment. Raises CannotRunError where what they need is not installed."""
    try:
        from open_spiel.python import rl_environment
        from open_spiel.python.pytorch import deep_cfr, nfsp
    except ImportError as error:
        raise record.CannotRunError(
            f"ARMAC is compared with OpenSpiel's Deep CFR and NFSP: pip install open_spiel dm-tree ({error})"
        ) from error
    return deep_cfr, nfsp, rl_environment


def _measured(tree: Tree, law: Law) -> float:
    def normalised(state: Any) -> dict[int, float]:  # Deep CFR's network gives illegal actions a share
        odds = {action: float(p) for action, p in law(state).items()}
        total = sum(odds.values())
        return {action: p / total for action, p in odds.items()}

    return float(games.exploitability(tree, from_policy(tree, SimpleNamespace(action_probabilities=normalised))))


def deep_cfr(tree: Tree, settings: dict[str, Any], seed: int) -> Peer:
    """Deep CFR, a step of which is an iteration. Its policy network learns, from the start, where it is measured."""
    module, _, _ = modules()
    solver = module.DeepCFRSolver(load(tree), num_iterations=1, seed=seed, **settings)
    learn = solver._learn_strategy_network
    solver._learn_strategy_network = lambda: None  # which `solve` would do after each iteration

    def exploitability() -> float:
        solver._reinitialize_policy_network()
        learn()
        return _measured(tree, solver.action_probabilities)

    return Peer(repeat(solver.solve), exploitability, alike=None)


def nfsp(tree: Tree, settings: dict[str, Any], seed: int) -> Peer:
    """NFSP, a step of which is a game."""
    _, module, rl = modules()
    env = rl.Environment(load(tree), chance_event_sampler=rl.ChanceEventSampler(seed))
    views, actions = env.observation_spec()["info_state"][0], env.action_spec()["num_actions"]
    agents = [module.NFSP(player, views, actions, seed=seed, **settings) for player in range(2)]

    def play() -> None:
        moment = env.reset()
        while not moment.last():
            moment = env.step([agents[moment.observations["current_player"]].step(moment).action])
        for agent in agents:
            agent.step(moment)

    def law(state: Any) -> dict[int, float]:
        legal, player = state.legal_actions(), state.current_player()
        both = {"info_state": [state.information_state_tensor()] * 2, "legal_actions": [legal] * 2}
        moment = rl.TimeStep({**both, "current_player": player}, rewards=None, discounts=None, step_type=None)
        with agents[player].temp_mode_as(module.MODE.AVERAGE_POLICY):
            odds = agents[player].step(moment, is_evaluation=True).probs
        return {action: odds[action] for action in legal}

    return Peer(repeat(play), lambda: _measured(tree, law), alike=None)


PEERS: dict[str, Callable[[Tree, dict[str, Any], int], Peer]] = {"deep cfr": deep_cfr, "nfsp": nfsp}
