"""Problems about networks."""

from __future__ import annotations

from itertools import product

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw

_GRAPH = "A network has nodes 0 to nodes - 1; each row [a, b] of edges joins two of them, both ways. "
Rows = list[list[int]]


def _hops(nodes: int, edges: Rows) -> dict[tuple[int, int], int]:
    """The least number of edges between any two nodes that are joined, by relaxing until nothing changes."""
    hops = {(node, node): 0 for node in range(nodes)}
    for _ in range(nodes):
        for (a, b), source in product([*edges, *((b, a) for a, b in edges)], range(nodes)):
            if (source, a) in hops:
                hops[source, b] = min(hops.get((source, b), nodes), hops[source, a] + 1)
    return hops


def _cheapest(nodes: int, edges: Rows, k: int, m: int) -> int:
    far = 10**9
    cost = [0] + [far] * (nodes - 1)
    for _ in range(nodes):
        for a, b, weight in edges:
            cost[b] = min(cost[b], cost[a] + weight + k)
            cost[a] = min(cost[a], cost[b] + weight + k)
    return cost[-1] if cost[-1] < far else -1


def _longest_path(nodes: int, edges: Rows, k: int, m: int) -> int:
    def from_(node: int) -> int:
        return 1 + max((from_(b) for a, b in edges if a == node and b - a <= k), default=0)

    return max(map(from_, range(nodes)))


def _big_groups(nodes: int, edges: Rows, k: int, m: int) -> int:
    hops = _hops(nodes, edges)
    groups = {tuple(b for b in range(nodes) if (a, b) in hops) for a in range(nodes)}
    return sum(len(group) ** 2 for group in groups if len(group) >= k)


KINDS = (
    Kind(
        "busy_nodes", 1, (("nodes", "int"), ("edges", "rows")), "ints",
        _GRAPH + "List, in ascending order, the nodes that are joined to exactly {k} others.",
        """
def busy_nodes(nodes, edges):
    degree = [0] * nodes
    for a, b in edges:
        degree[a] += 1
        degree[b] += 1
    return [node for node in range(nodes) if degree[node] == K]
""",
        lambda nodes, edges, k, m: [n for n in range(nodes) if sum(n in edge for edge in edges) == k], draw.graph, (0, 1, 2, 3),
    ),
    Kind(
        "wide_edges", 1, (("nodes", "int"), ("edges", "rows")), "int",
        _GRAPH + "Add up b - a over the edges [a, b] for which that difference is at least {k}; a is always below b.",
        """
def wide_edges(nodes, edges):
    return sum(b - a for a, b in edges if b - a >= K)
""",
        lambda nodes, edges, k, m: sum(d for d in range(k, nodes) for a, b in edges if a + d == b), draw.graph, (1, 2, 3, 4),
    ),
    Kind(
        "big_groups", 2, (("nodes", "int"), ("edges", "rows")), "int",
        _GRAPH + "A group is a set of nodes that can all reach each other over edges and no other node. Add up the squares of the sizes of the groups of at least {k} nodes.",
        """
def big_groups(nodes, edges):
    leader = list(range(nodes))
    def find(node):
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node
    for a, b in edges:
        leader[find(a)] = find(b)
    roots = [find(node) for node in range(nodes)]
    return sum(roots.count(root) ** 2 for root in set(roots) if roots.count(root) >= K)
""",
        _big_groups, draw.graph, (1, 2, 3), large=12,
    ),
    Kind(
        "within_steps", 2, (("nodes", "int"), ("edges", "rows")), "ints",
        _GRAPH + "List, in ascending order, the nodes that node 0 reaches over at least {k} and at most {m} edges, taking the least number of edges that will do.",
        """
def within_steps(nodes, edges):
    steps, layer, count = {0: 0}, [0], 0
    while layer:
        count += 1
        layer = sorted({b for pair in edges for a, b in (pair, pair[::-1]) if a in layer and b not in steps})
        steps.update(dict.fromkeys(layer, count))
    return sorted(node for node, count in steps.items() if K <= count <= M)
""",
        lambda nodes, edges, k, m: [b for (a, b), n in sorted(_hops(nodes, edges).items()) if a == 0 and k <= n <= m],
        draw.graph, (0, 1, 2), (2, 3, 4), large=12,
    ),
    Kind(
        "cheapest_way", 3, (("nodes", "int"), ("edges", "rows")), "int",
        "A network has nodes 0 to nodes - 1; each row [a, b, weight] of edges joins two of them, both ways. To pass an edge costs its weight "
        "plus {k}. What is the least cost from node 0 to the last node? -1 where there is no way; 0 when they are the same node. "
        "There may be a thousand nodes.",
        """
def cheapest_way(nodes, edges):
    import heapq
    near = [[] for _ in range(nodes)]
    for a, b, weight in edges:
        near[a].append((b, weight + K))
        near[b].append((a, weight + K))
    queue, done = [(0, 0)], set()
    while queue:
        cost, node = heapq.heappop(queue)
        if node == nodes - 1:
            return cost
        if node not in done:
            done.add(node)
            for other, price in near[node]:
                heapq.heappush(queue, (cost + price, other))
    return -1
""",
        _cheapest, draw.weighted, (0, 1, 2, 3, 5, 10), large=1000, slow_to=50,
    ),
    Kind(
        "longest_path", 3, (("nodes", "int"), ("edges", "rows")), "int",
        "Tasks are numbered 0 to nodes - 1; each row [a, b] of edges, a below b, says that b comes after a. Only edges with b - a at most {k} "
        "matter. How many tasks has the longest chain in which each comes after the one before it? There may be hundreds of tasks.",
        """
def longest_path(nodes, edges):
    length = [1] * nodes
    for a, b in sorted(edges):
        if b - a <= K:
            length[b] = max(length[b], length[a] + 1)
    return max(length)
""",
        _longest_path, draw.graph, (1, 2, 3, 4, 6), large=800, slow_to=12,
    ),
)  # fmt: skip
