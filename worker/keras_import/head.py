"""The scores before the activation: where a network's last softmax or sigmoid is cut off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from worker.errors import ModelError
from worker.keras_import.graph import INPUT, Graph, Node

Output = Literal["softmax", "sigmoid"]

# What makes new values of all that it is given: before it, a sigmoid is a layer's own affair.
_MIXES = ("Dense", "Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")


@dataclass(frozen=True)
class Headless:
    """`graph` puts out scores, `output` is what made probabilities of them."""

    graph: Graph
    output: Output


def cut_activation(graph: Graph, output: Output | None) -> Headless:
    """`graph` up to the scores. `output`: what the user says it is, needed where the last layer has no
    activation. Raises ModelError for another activation, and where `output` and the network disagree."""
    nodes = {node.name: node for node in graph.nodes}
    last = _last(nodes, graph.output)
    found: str
    if last.kind == "Softmax":
        found = (
            "softmax" if last.settings.get("axis", -1) in (-1, [-1], 1, [1]) else "softmax over another axis"
        )
        end = _last(nodes, last.inputs[0]).name
    elif last.kind == "Activation":
        found = last.settings.get("activation", "linear")
        end = _last(nodes, last.inputs[0]).name
    elif last.settings.get("activation", "linear") != "linear":
        found, end = last.settings["activation"], last.name
        nodes[end] = replace(last, settings={**last.settings, "activation": "linear"})
    else:
        found, end = "linear", last.name
    if found == "linear":
        if (early := _probabilities_before(graph, end)) is not None:
            raise ModelError(
                f"the last layer, {last.own}, changes the probabilities of {early.own}, so that what it puts "
                "out is no score before a softmax or sigmoid: build the model to end in that activation"
            )
        if output is None:
            raise ModelError(
                f"the last layer, {last.own}, has no activation: say --output softmax if the classes "
                "exclude each other, or --output sigmoid if each has a probability of its own"
            )
        found = output
    if found not in ("softmax", "sigmoid"):
        raise ModelError(
            f"the last layer, {last.own}, ends in {found}; a classifier ends in softmax or sigmoid"
        )
    if output is not None and found != output:
        raise ModelError(f"the model ends in {found}, --output says {output}; leave --output out")
    return Headless(_reached(nodes, end, graph), "softmax" if found == "softmax" else "sigmoid")


def two_scores(graph: Graph) -> Graph:
    """One score as two, [-s/2, s/2]: the softmax of those is the sigmoid of the one, exactly."""
    names = {node.name for node in graph.nodes}
    name = "two_scores"
    while name in names:
        name += "_"
    node = Node(name, "TwoScores", {}, (graph.output,), own=name)
    return Graph((*graph.nodes, node), name, graph.shape)


def _probabilities_before(graph: Graph, end: str) -> Node | None:
    """The layer that made probabilities of what `end` puts out, such as one of the softmaxes of an ensemble
    before their average, or that before a reshape."""
    made: dict[str, Node | None] = {INPUT: None}
    for node in graph.nodes:
        found = [made[name] for name in node.inputs]
        if node.kind == "Softmax" or node.settings.get("activation") in _PROBABILITIES:
            made[node.name] = node
        # A gate is a product of which one factor is no probability.
        elif node.kind in _MIXES or (node.kind == "Multiply" and None in found):
            made[node.name] = None
        else:
            made[node.name] = next((one for one in found if one is not None), None)
    return made[end]


def _last(nodes: dict[str, Node], name: str) -> Node:
    while name != INPUT:
        node = nodes[name]
        passes = node.kind == "Identity" or (
            node.kind == "Activation" and node.settings.get("activation", "linear") == "linear"
        )
        if not passes:
            return node
        name = node.inputs[0]
    raise ModelError("the model has no layer that classifies")


def _reached(nodes: dict[str, Node], end: str, graph: Graph) -> Graph:
    needed, waiting = set(), [end]
    while waiting:
        name = waiting.pop()
        if name not in needed and name != INPUT:
            needed.add(name)
            waiting += nodes[name].inputs
    kept = tuple(nodes[node.name] for node in graph.nodes if node.name in needed)
    return Graph(kept, end, graph.shape)
