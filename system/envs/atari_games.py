"""The 60 Atari games of the DQN-replay data, in the fixed order by which task embeddings look them up.

Sources: scores of random and human play as in Mnih et al. 2015 and the later tables that fill its gaps; scores
of DQN as in the public code of JOWA (Cheng et al. 2024), for the games that it uses and Breakout. Table 17 of its
paper has others for the five games of transfer: Gravitar 473.0, MsPacman 3085.6, Pong 19.5, Robotank 63.9 and
YarsRevenge 18089.9.
"""

from dataclasses import dataclass

NUM_ACTIONS = 18
"""Of the full action set, in ALE's order: the stick's nine positions, then eight of them with fire."""

_ALL = tuple(range(NUM_ACTIONS))


@dataclass(frozen=True)
class AtariGame:
    """One game.

    Attributes:
        index: position in `GAMES`.
        name: as in environment ids.
        rom: name of its file.
        minimal_actions: of the full action set, those that have an effect of their own, in the order in
            which data recorded with this set number them.
        random, human, dqn: mean scores of uniform play, of a human tester and of DQN; None if unknown.
    """

    index: int
    name: str
    rom: str
    minimal_actions: tuple[int, ...]
    random: float | None = None
    human: float | None = None
    dqn: float | None = None

    @property
    def environment_id(self) -> str:
        return f"ALE/{self.name}-v5"


GAMES: tuple[AtariGame, ...] = (
    AtariGame(0, "AirRaid", "air_raid", (0, 1, 3, 4, 11, 12)),
    AtariGame(1, "Alien", "alien", _ALL, 227.8, 7127.7),
    AtariGame(2, "Amidar", "amidar", (0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 5.8, 1719.5),
    AtariGame(3, "Assault", "assault", (0, 1, 2, 3, 4, 11, 12), 222.4, 742.0, 1525.2),
    AtariGame(4, "Asterix", "asterix", (0, 2, 3, 4, 5, 6, 7, 8, 9), 210.0, 8503.3),
    AtariGame(5, "Asteroids", "asteroids", (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15), 719.1, 47388.7),
    AtariGame(6, "Atlantis", "atlantis", (0, 1, 11, 12), 12850.0, 29028.1, 853640.0),
    AtariGame(7, "BankHeist", "bank_heist", _ALL, 14.2, 753.1),
    AtariGame(8, "BattleZone", "battle_zone", _ALL, 2360.0, 37187.5),
    AtariGame(9, "BeamRider", "beam_rider", (0, 1, 2, 3, 4, 6, 7, 11, 12), 363.9, 16926.5, 5852.4),
    AtariGame(10, "Berzerk", "berzerk", _ALL, 123.7, 2630.4, 487.5),
    AtariGame(11, "Bowling", "bowling", (0, 1, 2, 5, 10, 13), 23.1, 160.7),
    AtariGame(12, "Boxing", "boxing", _ALL, 0.1, 12.1),
    AtariGame(13, "Breakout", "breakout", (0, 1, 3, 4), 1.7, 30.5, 96.2),
    AtariGame(14, "Carnival", "carnival", (0, 1, 3, 4, 11, 12), 700.8, 3800.0, 4784.8),
    AtariGame(15, "Centipede", "centipede", _ALL, 2090.9, 12017.0, 2583.0),
    AtariGame(16, "ChopperCommand", "chopper_command", _ALL, 811.0, 7387.8, 2690.6),
    AtariGame(17, "CrazyClimber", "crazy_climber", (0, 2, 3, 4, 5, 6, 7, 8, 9), 10780.5, 35829.4),
    AtariGame(18, "DemonAttack", "demon_attack", (0, 1, 3, 4, 11, 12), 152.1, 1971.0, 6361.6),
    AtariGame(19, "DoubleDunk", "double_dunk", _ALL, -18.6, -16.4),
    AtariGame(20, "ElevatorAction", "elevator_action", _ALL),
    AtariGame(21, "Enduro", "enduro", (0, 1, 3, 4, 5, 8, 9, 11, 12), 0.0, 860.5),
    AtariGame(22, "FishingDerby", "fishing_derby", _ALL, -91.7, -38.7),
    AtariGame(23, "Freeway", "freeway", (0, 2, 5), 0.0, 29.6),
    AtariGame(24, "Frostbite", "frostbite", _ALL, 65.2, 4334.7),
    AtariGame(25, "Gopher", "gopher", (0, 1, 2, 3, 4, 10, 11, 12), 257.6, 2412.5),
    AtariGame(26, "Gravitar", "gravitar", _ALL, 173.0, 3351.4, 330.1),
    AtariGame(27, "Hero", "hero", _ALL, 1027.0, 30826.4),
    AtariGame(28, "IceHockey", "ice_hockey", _ALL, -11.2, 0.9),
    AtariGame(29, "Jamesbond", "jamesbond", _ALL, 29.0, 302.8),
    AtariGame(30, "JourneyEscape", "journey_escape", (0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17)),
    AtariGame(31, "Kangaroo", "kangaroo", _ALL, 52.0, 3035.0),
    AtariGame(32, "Krull", "krull", _ALL, 1598.0, 2665.5),
    AtariGame(
        33, "KungFuMaster", "kung_fu_master", (0, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14, 15, 16, 17), 258.5, 22736.3
    ),
    AtariGame(34, "MontezumaRevenge", "montezuma_revenge", _ALL, 0.0, 4753.3),
    AtariGame(35, "MsPacman", "ms_pacman", (0, 2, 3, 4, 5, 6, 7, 8, 9), 307.3, 6951.6, 3402.4),
    AtariGame(36, "NameThisGame", "name_this_game", (0, 1, 3, 4, 11, 12), 2292.3, 8049.0, 7278.6),
    AtariGame(37, "Phoenix", "phoenix", (0, 1, 3, 4, 5, 11, 12, 13), 761.4, 7242.6, 4996.6),
    AtariGame(38, "Pitfall", "pitfall", _ALL, -229.4, 6463.7),
    AtariGame(39, "Pong", "pong", (0, 1, 3, 4, 11, 12), -20.7, 14.6, 16.6),
    AtariGame(40, "Pooyan", "pooyan", (0, 1, 2, 5, 10, 13)),
    AtariGame(41, "PrivateEye", "private_eye", _ALL, 24.9, 69571.3),
    AtariGame(42, "Qbert", "qbert", (0, 1, 2, 3, 4, 5), 163.9, 13455.0),
    AtariGame(43, "Riverraid", "riverraid", _ALL, 1338.5, 17118.0),
    AtariGame(44, "RoadRunner", "road_runner", _ALL, 11.5, 7845.0),
    AtariGame(45, "Robotank", "robotank", _ALL, 2.2, 11.9, 59.8),
    AtariGame(46, "Seaquest", "seaquest", _ALL, 68.4, 42054.7, 1600.7),
    AtariGame(47, "Skiing", "skiing", (0, 3, 4), -17098.1, -4336.9),
    AtariGame(48, "Solaris", "solaris", _ALL, 1236.3, 12326.7),
    AtariGame(49, "SpaceInvaders", "space_invaders", (0, 1, 3, 4, 11, 12), 148.0, 1668.7, 1794.2),
    AtariGame(50, "StarGunner", "star_gunner", _ALL, 664.0, 10250.0, 42165.2),
    AtariGame(51, "Tennis", "tennis", _ALL, -23.8, -8.3),
    AtariGame(52, "TimePilot", "time_pilot", (0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 3568.0, 5229.2, 3654.4),
    AtariGame(53, "Tutankham", "tutankham", (0, 2, 3, 4, 5, 10, 11, 12), 11.4, 167.6),
    AtariGame(54, "UpNDown", "up_n_down", (0, 1, 2, 5, 10, 13), 533.4, 11693.2),
    AtariGame(55, "Venture", "venture", _ALL, 0.0, 1187.5),
    AtariGame(56, "VideoPinball", "video_pinball", (0, 1, 2, 3, 4, 5, 10, 11, 12), 16256.9, 17667.9),
    AtariGame(57, "WizardOfWor", "wizard_of_wor", (0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 563.5, 4756.5),
    AtariGame(58, "YarsRevenge", "yars_revenge", _ALL, 3092.9, 54576.9, 23909.4),
    AtariGame(59, "Zaxxon", "zaxxon", _ALL, 32.5, 9173.3, 4538.6),
)
"""In alphabetical order. A game's index must never change: trained weights refer to it."""


def find_game(environment_id: str) -> AtariGame | None:
    """The game of an environment id; None if it is of something else."""
    return next((game for game in GAMES if game.environment_id == environment_id), None)
