"""Words that riddles are made of: common English nouns of four to seven letters, none an anagram of another."""

_LISTED = """
acorn amber anchor angle apple apron arrow attic badge baker bamboo banjo barrel basin basket beach beetle bench berry
bicycle blanket bottle branch bread brick bridge broom bubble bucket buffalo button cabin cactus camel candle canoe
carpet carrot castle cellar cement chain chalk cherry chimney circle clock cloud clover coal cobweb coffee comet compass
copper coral cotton cradle crane crayon cricket crown crystal cushion dagger daisy desert diamond dinner dolphin donkey
dragon drawer drum dwarf eagle easel echo elbow engine fabric falcon farmer feather fence fern ferry fiddle finger flame
flute forest fossil fountain fridge garden garlic giant ginger giraffe glacier glove goblet grape gravel guitar hammer
harbour harvest hedge helmet honey hook horse hotel icicle island ivory jacket jewel jigsaw jungle kennel kettle kitchen
kite knight ladder lagoon lantern lemon letter lizard llama lobster locket magnet maple marble market meadow
mirror monkey mosaic muffin mustard napkin needle nutmeg oasis olive onion orange orchard otter oven oyster
paddle palace panda parrot pebble pencil pepper piano pigeon pillow pirate planet plough pocket pony porch potato
puddle pumpkin puppet puzzle pyramid quartz quilt rabbit radish raft rainbow raven ribbon river rocket rooster saddle
salmon sandal satchel scarf school shadow shield shovel silver sketch sleeve snail sparrow spider sponge squid stable
statue stove straw swan sword teapot temple thimble thunder ticket tiger timber toast tomato torch tower tractor trumpet
tulip tunnel turtle umbrella uncle valley vase velvet village violin volcano wagon walnut walrus weasel whale wheel
whistle willow window winter wizard wolf yacht yogurt zebra zipper
"""
WORDS = tuple(_LISTED.split())
